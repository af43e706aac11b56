"""Fixed-Point GAN on phantoms of the chest, healthy against diseased: small enough for a CPU.

Command:   python -m launch.prepare --config=configs/phantom_translate.py --workdir=runs/phantom
           python -m launch.train_translator --config=configs/phantom_translate.py \
               --workdir=runs/phantom
Baseline:  the same with --config.translator.fixed_point=False and output=plain: StarGAN
Hardware, time and score:  docs/results/fixed_point.md
Data:      9,000 images of 3,000 patients in 4 classes, made on first use; docs/phantom.md
"""

import ml_collections

from configs import phantom


def get_config() -> ml_collections.ConfigDict:
    """Returns the translation of phantoms at 64 pixels, all training images."""
    config = phantom.get_config()
    # 60 patients with a nodule, as there are to train on among 400, teach no network to find them.
    config.data.source = "tfds:vrn_phantom/64-3000"
    config.data.val_fraction = config.data.test_fraction = 0.1
    config.data.real_per_class = 0
    translator = config.translator
    translator.domains = "healthy"
    translator.healthy = "healthy"
    # A quarter of the published channels, a third of the blocks, half the batch.
    translator.width = 16
    translator.blocks = 2
    translator.batch = 8
    translator.g_lr = 2e-4
    translator.d_lr = 3e-4
    # All but the adversarial term weigh more than published: with these the discriminator's units
    # stay alive (docs/translation.md).
    translator.domain_weight = 10.0
    translator.cycle_weight = translator.identity_weight = 50.0
    translator.targets = "other"
    # The heart lies on one side: no flip.
    translator.augment = ()
    translator.steps = 3000
    translator.decay = 0.3
    translator.log_every = 20
    translator.sample_every = translator.checkpoint_every = 500
    detector = config.detector
    detector.width = 8
    detector.batch = 8
    detector.healthy_augment = ()
    detector.augment = ("shift", "rotate", "scale", "brightness", "contrast")
    return config
