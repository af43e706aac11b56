"""A rare disease on phantoms: 20 images with an effusion, and healthy ones translated to more.

Command:   python -m launch.study --config=configs/phantom_rare.py --workdir=runs/rare \
               --generators=gan,translator --gan_seeds=1
One loop:  python -m launch.pipeline --config=configs/phantom_rare.py --workdir=runs/effusion
Hardware:  2 CPU cores
Time and score:  docs/rare_classes.md
Data:      9,000 images of 3,000 patients in 4 classes, made on first use; docs/phantom.md
"""

import ml_collections

from configs import phantom_translate


def get_config() -> ml_collections.ConfigDict:
    """Returns the loop at 32 pixels with the networks of `phantom_translate`, one class rare."""
    config = phantom_translate.get_config()
    config.data.source = "tfds:vrn_phantom/32-3000"
    config.data.size = 32
    config.vrn.input_size = 16  # half of an image, as elsewhere
    # A sign that can be learnt from few images: 60 patients teach nobody to find a nodule.
    config.data.per_class = '{"effusion": 20}'
    config.translator.domains = "classes"
    # Else the discriminator knows the 20 by heart.
    config.translator.augment = ("shift", "brightness", "contrast")
    config.generate.generator = "translator"
    # 1,800 healthy training images, half of them for each pool: none is used twice.
    config.generate.first_per_class = 150
    config.generate.second_per_class = 200
    config.extract.min_negatives = 60
    config.filter.names = ("vrn", "random")
    config.target.arms = ("classical", "duplicate", "random", "vrn")
    config.target.strengths = (0.5,)
    config.target.seeds = 5
    return config
