"""The loop on chest X-rays of 128 pixels in PNG files, small enough for two CPU cores.

Command:   python -m launch.pipeline --config=configs/chest_xray_128.py --workdir=runs/cxr128 \
               --config.data.source=folder:PATH
Hardware, time and score:  docs/results/two_formats.md
Data:      Kermany et al. 2018 (doi:10.17632/rscbjbr9sj.2), PATH/<split>/<class>/*.png, 90 training
           images per class
"""

import ml_collections

from configs import chest_xray


def get_config() -> ml_collections.ConfigDict:
    """Returns the chest X-ray experiment at 128 pixels, all training images."""
    config = chest_xray.get_config()
    config.data.source = "folder:cxr"
    config.data.size = 128
    config.data.real_per_class = 0
    # Half the default batch: at 128 pixels a step costs four times that at 64.
    config.gan.batch = 16
    config.gan.steps = 6000
    config.gan.sample_every = config.gan.checkpoint_every = 1000
    # At 32 pixels the ribs are gone, and with them much of what tells a bad image.
    config.vrn.input_size = 64
    # The arms that answer most, so that the whole loop stays within half an hour.
    config.target.arms = ("real", "classical", "random", "vrn")
    config.target.steps = 200
    return config
