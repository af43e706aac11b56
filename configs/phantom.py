"""The whole loop on phantoms of the chest, whose truth is known: no download.

Command:   python -m launch.pipeline --config=configs/phantom.py --workdir=runs/phantom
Hardware:  2 CPU cores
Time:      8 minutes of one core, report included (the cores were shared: no time by the clock)
Score:     balanced accuracy of the vrn arm 71.6 % (66.2 to 76.6), random 70.3, unfiltered 71.4,
           classical 73.6, real alone 74.3: no difference shown (commit 8d758af)
Defaults:  those of configs/default.py; docs/results/truth.md, where filters are measured against
           the truth, gave no reason to change one
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
