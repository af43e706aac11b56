"""Fixed-Point GAN on phantoms of the chest, healthy against diseased: small enough for a CPU.

Command:   python -m launch.prepare --config=configs/phantom_translate.py --workdir=runs/phantom
           python -m launch.train_translator --config=configs/phantom_translate.py \
               --workdir=runs/phantom
Baseline:  the same with --config.translator.fixed_point=False and output=plain: StarGAN
Hardware:  2 CPU cores
Time and score:  8 minutes beside other work (commit e747b72, seed 0); it does not find disease yet,
           docs/translation.md has the numbers
Data:      1,200 images of 400 patients in 4 classes, made on first use; docs/phantom.md
"""

import ml_collections

from configs import phantom


def get_config() -> ml_collections.ConfigDict:
    """Returns the translation of phantoms at 64 pixels, all training images."""
    config = phantom.get_config()
    config.data.real_per_class = 0
    translator = config.translator
    translator.domains = "healthy"
    translator.healthy = "healthy"
    # A quarter of the published channels, fewer blocks, half the batch, one update of the
    # discriminator for each of the translator, and four times the rates.
    translator.width = 16
    translator.blocks = 4
    translator.batch = 8
    translator.g_lr = translator.d_lr = 4e-4
    translator.n_critic = 1
    translator.targets = "other"
    # The heart lies on one side: no flip.
    translator.augment = ()
    translator.steps = 3000
    translator.log_every = 20
    translator.sample_every = translator.checkpoint_every = 250
    detector = config.detector
    detector.width = 8
    detector.batch = 8
    detector.healthy_augment = ()
    detector.augment = ("shift", "rotate", "scale", "brightness", "contrast")
    return config
