"""The experiment that is measured: the phantom's, smaller where the truth doesn't need the size."""

import ml_collections

from configs import phantom


def get_config() -> ml_collections.ConfigDict:
    """Returns the phantom experiment as measured against truth."""
    config = phantom.get_config()
    config.tensorboard = False
    config.data.workers = 1
    config.gan.steps = 2000
    config.gan.checkpoint_every = 1000
    config.gan.sample_every = 1000
    config.vrn.steps = 300
    config.target.shares = (0.75,)
    config.target.strengths = (0.5,)
    return config
