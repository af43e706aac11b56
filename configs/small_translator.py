"""A translator that a CPU can train, and the detectors beside it; shared by configurations."""

import ml_collections


def settle(config: ml_collections.ConfigDict) -> None:
    """Sets networks, rates and weights for images of up to 64 pixels.

    Published are 64 channels, 6 blocks, rates of 1e-4, weights of 1, 10 and 10 (CelebA) or 1, 10
    and 0.1 (BRATS) for domain, cycle and identity, and 40,000 or 60,000 steps.
    """
    translator = config.translator
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
    translator.steps = 3000
    translator.decay = 0.3
    translator.log_every = 20
    translator.sample_every = translator.checkpoint_every = 500
    config.detector.width = 8
    config.detector.batch = 8
