"""The loop on lymph nodes with and without metastases: 327,680 patches, 100 reals per class.

Command:   python -m launch.pipeline --config=configs/patch_camelyon.py --workdir=runs/pcam
Hardware, time and score:  not measured; the first stage downloads 7.5 GiB with tfds
Data:      Veeling et al. 2018 (arXiv:1806.03962), tfds:patch_camelyon, 96 pixels
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the PatchCamelyon experiment at 64 pixels in colour, two classes."""
    config = default.get_config()
    config.data.source = "tfds:patch_camelyon"  # has train, validation and test of its own
    # The label is of the middle 32 pixels of 96, which become 21 of 64.
    config.data.size = 64
    config.data.channels = 3
    config.data.real_per_class = 100
    config.data.augment = ("flip", "shift", "rotate", "scale", "brightness", "contrast", "colour")
    config.features.stem = "imagenet"
    config.target.stem = "imagenet"
    return config
