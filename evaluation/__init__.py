"""Judges of every stage: arrays in, numbers out, no files and no models.

- `neighbours.py`: nearest neighbours in bounded memory
- `classification.py`: accuracy, balanced accuracy, recall and AUC, plain and weighted
- `calibration.py`: reliability of probabilities, and the maps that mend them
- `statistics.py`: arms compared by means, bootstrap intervals and paired differences
- `memorisation.py`: does the generator copy its training images?
- `autoencoder.py`: the linear autoencoder, with which maps of change are compared
- `detection.py`: which images are diseased, by maps of what translation to healthy changes
- `localisation.py`: where the disease is, by the same maps
- `similarity.py`: how alike two images look
- `fidelity.py`: do synthetic images look like real ones, and cover them?
"""
