"""Fixed-Point GAN on phantoms of the chest, healthy against diseased: small enough for a CPU.

Command:   python -m launch.prepare --config=configs/phantom_translate.py --workdir=runs/phantom
           python -m launch.train_translator --config=configs/phantom_translate.py \
               --workdir=runs/phantom
StarGAN:   the same with another --workdir, --config.translator.fixed_point=False and
               --config.translator.output=plain
Hardware, time and score:  docs/results/fixed_point.md
Data:      9,000 images of 3,000 patients in 4 classes, made on first use; docs/phantom.md
"""

import ml_collections

from configs import phantom, small_translator


def get_config() -> ml_collections.ConfigDict:
    """Returns the translation of phantoms at 64 pixels, all training images."""
    config = phantom.get_config()
    # 60 patients with a nodule, as there are to train on among 400, teach no network to find them.
    config.data.source = "tfds:vrn_phantom/64-3000"
    config.data.val_fraction = config.data.test_fraction = 0.1
    config.data.real_per_class = 0
    small_translator.settle(config)
    translator = config.translator
    translator.domains = "healthy"
    translator.healthy = "healthy"
    # The heart lies on one side: no flip.
    translator.augment = ()
    detector = config.detector
    detector.healthy_augment = ()
    detector.augment = ("shift", "rotate", "scale", "brightness", "contrast")
    return config
