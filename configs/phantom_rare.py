"""A rare disease on phantoms: 20 nodules, and healthy images translated to more of them.

Command:   python -m launch.study --config=configs/phantom_rare.py --workdir=runs/rare \
               --generators=gan,translator
One loop:  python -m launch.pipeline --config=configs/phantom_rare.py --workdir=runs/rare
Hardware:  2 CPU cores
Time and score:  docs/rare_classes.md
Data:      1,200 images of 400 patients in 4 classes, made on first use; docs/phantom.md
"""

import ml_collections

from configs import phantom_translate


def get_config() -> ml_collections.ConfigDict:
    """Returns the loop at 64 pixels with the networks of `phantom_translate`, one class rare."""
    config = phantom_translate.get_config()
    config.data.source = "tfds:vrn_phantom/64"
    config.data.val_fraction, config.data.test_fraction = 0.15, 0.25
    config.data.per_class = '{"nodule": 20}'
    config.translator.domains = "classes"
    config.generate.generator = "translator"
    # Some 180 healthy training images, half of them for each pool: each is used twice at most.
    config.generate.repeats = 2
    config.generate.first_per_class = 150
    config.generate.second_per_class = 160
    config.extract.min_negatives = 60
    config.filter.names = ("vrn", "random")
    config.target.arms = ("classical", "duplicate", "unfiltered", "random", "vrn")
    config.target.seeds = 5
    return config
