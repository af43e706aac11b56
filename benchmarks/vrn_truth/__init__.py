"""The VRN and what it competes with, measured on phantoms whose faults are known.

- `setting.py`: the experiment
- `pools.py`: real splits, and pools with faults; `marks.py`: the trace of their generator
- `experts.py`: annotation with known mistakes
- `bench.py`: the loop's own networks, annotators, filters and target model on them
- `generator.py`: a GAN's images, whose truth the phantom's analyser sees
- `transfer.py`: faults in a GAN's images, and VRNs of two of its checkpoints
- `studies.py`: what is measured, cell by cell; `benchmarks.cells` keeps the results
- `measures.py`, `results.py`, `plots.py`: results become numbers, points and pictures
- `main_figure.py`, `figures.py`, `robust.py`, `report.py`: the figures and tables
"""
