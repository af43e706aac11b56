"""Fixed-Point GAN and what it competes with in finding disease, measured alike.

- `methods.py`: the methods, the data, and the commands of a measurement
- `report.py`: its numbers as tables
"""
