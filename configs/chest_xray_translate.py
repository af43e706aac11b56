"""Fixed-Point GAN on chest X-rays of children: 40 viral pneumonias, and normal images made viral.

Command:   python -m launch.study --config=configs/chest_xray_translate.py --workdir=runs/cxr \
               --config.data.source=npz:PATH/cxr_pneumonia_64.npz --generators=gan,translator
One loop:  python -m launch.pipeline with another --workdir, the same --config and data.source
Hardware:  2 CPU cores
Time and score:  docs/rare_classes.md
Data:      Kermany et al. 2018 (doi:10.17632/rscbjbr9sj.2)
"""

import ml_collections

from configs import chest_xray, small_translator


def get_config() -> ml_collections.ConfigDict:
    """Returns the loop at 64 pixels, all training images but for one class, which is rare."""
    config = chest_xray.get_config()
    config.data.real_per_class = 0
    config.data.per_class = '{"viral_pneumonia": 40}'
    config.data.unlabelled = 0
    small_translator.settle(config)
    config.translator.domains = "classes"
    config.translator.healthy = "normal"
    # Else the discriminator learns the 40 one by one. The heart lies on one side: no flip.
    config.translator.augment = ("shift", "brightness", "contrast")
    config.generate.generator = "translator"
    # 400 normal training images, half of them for each pool; a second round of the first takes all.
    config.generate.repeats = 3
    config.filter.names = ("vrn", "random")
    config.target.arms = ("classical", "duplicate", "random", "vrn")
    config.target.seeds = 5
    return config
