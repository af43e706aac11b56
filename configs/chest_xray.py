"""The loop on paediatric chest X-rays: normal, bacterial and viral pneumonia, 50 reals per class.

Command:   python -m launch.pipeline --config=configs/chest_xray.py --workdir=runs/cxr \
               --config.data.source=npz:PATH/cxr_pneumonia_64.npz
Unlabelled images as well:  add --config.data.unlabelled=-1
Hardware:  2 CPU cores
Time and score:  docs/results/chest_xray.md
Data:      Kermany et al. 2018 (doi:10.17632/rscbjbr9sj.2), as a MedMNIST-style npz of 64 pixels
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the chest X-ray experiment at 64 pixels, three classes."""
    config = default.get_config()
    config.data.source = "npz:cxr_pneumonia_64.npz"
    config.data.size = 64
    config.data.real_per_class = 50
    # The heart lies on one side: no flip. Left and right tell disease from situs inversus.
    config.data.augment = ("shift", "rotate", "scale", "brightness", "contrast", "noise")
    # A stem of stride 4 makes the classifiers sixteen times cheaper at 64 pixels.
    config.features.stem = "imagenet"
    config.target.stem = "imagenet"
    return config
