"""Fixed-Point GAN on chest X-rays of children: normal, bacterial and viral pneumonia.

Command:   python -m launch.prepare --config=configs/chest_xray_translate.py --workdir=runs/cxr \
               --config.data.source=npz:PATH/cxr_pneumonia_64.npz
           python -m launch.train_translator --config=configs/chest_xray_translate.py \
               --workdir=runs/cxr
Hardware, time and score:  not measured
Data:      Kermany et al. 2018 (doi:10.17632/rscbjbr9sj.2)
"""

import ml_collections

from configs import chest_xray


def get_config() -> ml_collections.ConfigDict:
    """Returns translation between the three classes at 64 pixels, all training images."""
    config = chest_xray.get_config()
    config.data.real_per_class = 0
    config.data.unlabelled = 0
    config.translator.domains = "classes"
    config.translator.healthy = "normal"
    # The heart lies on one side: no flip.
    config.translator.augment = ()
    return config
