"""Fixed-Point GAN on faces with five attributes, as published but for the output.

Command:   python -m launch.prepare --config=configs/celeba.py --workdir=runs/celeba
           python -m launch.train_translator --config=configs/celeba.py --workdir=runs/celeba
Hardware, time and score:  not measured; the first program downloads it with tfds
Data:      Liu et al. 2015 (arXiv:1411.7766), tfds:celeb_a, 178 x 218 pixels; has train, validation
           and test of its own
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the published experiment: 128 pixels, 32 combinations of attributes.

    It differs in `translator.output`, which leaves an image as it is where nothing is changed;
    --config.translator.output=tanh is what was published.
    """
    config = default.get_config()
    config.data.source = "tfds:celeb_a"
    config.data.attributes = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
    config.data.preprocess = ("resize(crop)",)  # the middle 178 x 178 pixels
    config.data.size = 128
    config.data.channels = 3
    config.data.real_per_class = 0
    config.translator.domains = "attributes"
    return config
