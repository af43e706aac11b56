"""The loop on tissue of colorectal cancer: 5,000 tiles of eight classes, 50 reals per class.

Command:   python -m launch.pipeline --config=configs/colorectal_histology.py \
               --workdir=runs/colorectal
Hardware, time and score:  not measured; the first stage downloads 246 MiB with tfds
Data:      Kather et al. 2016 (doi:10.1038/srep27988), tfds:colorectal_histology, 150 pixels
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the colorectal histology experiment at 64 pixels in colour, eight classes."""
    config = default.get_config()
    # One split without patients: which tiles are of one slide is not known, so images of the test
    # split may be of slides that were trained on.
    config.data.source = "tfds:colorectal_histology"
    config.data.size = 64
    config.data.channels = 3
    config.data.real_per_class = 50
    # Tissue has no left and right; stains differ in colour.
    config.data.augment = ("flip", "shift", "rotate", "scale", "brightness", "contrast", "colour")
    config.features.stem = "imagenet"
    config.target.stem = "imagenet"
    return config
