"""The loop on blood cells with and without malaria parasites: 27,558 cells, 50 reals per class.

Command:   python -m launch.pipeline --config=configs/malaria.py --workdir=runs/malaria
Hardware, time and score:  not measured; the first stage downloads 337 MiB with tfds
Data:      Rajaraman et al. 2018 (doi:10.7717/peerj.4568), tfds:malaria, about 130 pixels
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the malaria experiment at 64 pixels in colour, two classes."""
    config = default.get_config()
    # One split without patients: cells of one patient may be on both sides of the division.
    config.data.source = "tfds:malaria"
    config.data.size = 64
    config.data.channels = 3
    config.data.real_per_class = 50
    # Single cells: each lies as it happened to.
    config.data.augment = ("flip", "shift", "rotate", "scale", "brightness", "contrast", "colour")
    config.features.stem = "imagenet"
    config.target.stem = "imagenet"
    return config
