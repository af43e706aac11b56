"""The whole loop on phantoms of the chest, whose truth is known: no download.

Command:   python -m launch.pipeline --config=configs/phantom.py --workdir=runs/phantom
Hardware:  2 CPU cores
Time and score:  not measured yet; filters against the truth: docs/results/truth.md, which gave no
           reason to change a default
Data:      1,200 images of 400 patients in 4 classes, made on first use; docs/phantom.md
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the phantom experiment at 64 pixels: 50 real images per class."""
    config = default.get_config()
    config.data.source = "tfds:vrn_phantom/64"
    config.data.size = 64
    config.data.real_per_class = 50
    # The heart lies on one side: no flip.
    config.data.augment = ("shift", "rotate", "scale", "brightness", "contrast", "noise")
    # A stem of stride 4 makes the classifiers sixteen times cheaper at 64 pixels.
    config.features.stem = "imagenet"
    config.target.stem = "imagenet"
    return config
