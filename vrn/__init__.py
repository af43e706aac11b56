"""From a first pool to a target model: annotate, extract, train the VRN, filter, compose, train.

- `features.py`: the feature space that annotators and filters share
- `realism.py`: how strange a synthetic image is beside the real ones, as a p-value
- `annotators.py`: real-like or not, by label-free annotators, classifiers and ensembles
- `estimators.py`: scikit-learn classifiers by name
- `labels.py`: labels.parquet, written by annotators and by people alike
- `extraction.py`: annotated pool to candidates, VRN negatives, and the parts that judge the VRN
- `traces.py`: removes what gives a generator away, in real and synthetic images alike
- `classifier.py`: the one supervised trainer, of feature network, VRN and target model
- `calibrate.py`: VRN logits to probabilities and an operating point, measured within synthetic
- `filters.py`: the VRN's filter and those it must beat, behind one interface
- `target.py`: arms, that is how target datasets are composed, and the search every arm gets
"""
