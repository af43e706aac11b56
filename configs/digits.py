"""The whole loop on scikit-learn's 1,797 handwritten digits: no download, a few minutes.

Command:   python -m launch.pipeline --config=configs/digits.py --workdir=runs/digits
Hardware:  2 CPU cores
Time:      see README.md
Score:     README.md shows the table that this configuration makes
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the digits experiment: 10 real images per class at 16 pixels."""
    config = default.get_config()

    config.data.source = "tfds:vrn_digits"
    config.data.size = 16
    config.data.real_per_class = 10
    # Mirrored digits are other signs, so there is no flip.
    config.data.augment = ("shift", "rotate", "scale", "contrast", "noise")

    config.gan.width = 24
    config.gan.batch = 32
    config.gan.steps = 5000
    config.gan.diffaugment = ("color", "translation")

    config.generate.first_per_class = 120
    config.generate.second_per_class = 100

    config.features.steps = 300
    config.extract.min_negatives = 60
    config.extract.min_negatives_per_class = 1

    config.vrn.input_size = 16
    config.vrn.width = 8
    config.vrn.steps = 400

    config.target.seeds = 5
    config.target.width = 8
    config.target.steps = 400
    config.target.strengths = (0.5, 1.0)
    return config
