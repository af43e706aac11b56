"""The digits loop in its smallest form: every stage real, every count small.

Command:   python -m launch.pipeline --config=tests/tiny.py --workdir=DIR
"""

import ml_collections

from configs import digits


def get_config() -> ml_collections.ConfigDict:
    config = digits.get_config()
    config.tensorboard = False

    config.gan.width = 8
    config.gan.steps = 60
    config.gan.log_every = 10
    config.gan.sample_every = 60
    config.gan.checkpoint_every = 20

    config.translator.width = 4
    config.translator.blocks = 1
    config.translator.batch = 4
    config.translator.n_critic = 2
    config.translator.augment = ()
    config.translator.steps = 6
    config.translator.log_every = 1
    config.translator.sample_every = 6
    config.translator.checkpoint_every = 2

    config.detector.width = 4
    config.detector.latent = 8
    config.detector.batch = 4
    config.detector.augment = config.detector.healthy_augment = ()
    config.detector.steps = 6
    config.detector.log_every = 1
    config.detector.sample_every = 6
    config.detector.checkpoint_every = 2

    config.generate.first_per_class = 20
    config.generate.second_per_class = 12

    config.features.width = 4
    config.features.steps = 40
    config.features.log_every = 10
    config.annotate.members = ("knn", "consistency")

    config.extract.min_negatives = 20
    config.extract.min_negatives_per_class = 1
    config.extract.max_rounds = 3

    config.vrn.width = 4
    config.vrn.steps = 40
    config.vrn.log_every = 10
    config.vrn.checkpoint_every = 10

    config.target.arms = ("real", "random", "vrn")
    config.target.seeds = 2
    config.target.width = 4
    config.target.steps = 30
    config.target.shares = (0.5,)
    config.target.log_every = 10
    config.target.checkpoint_every = 10

    config.report.resamples = 200
    return config
