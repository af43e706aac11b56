"""Fixed-Point GAN on slices of brain MRI (FLAIR), with and without a tumour.

Command:   python -m launch.prepare --config=configs/brain_translate.py --workdir=runs/brain \
               --config.data.source=npz:PATH/brain_lgg_64.npz
           python -m launch.train_translator --config=configs/brain_translate.py \
               --workdir=runs/brain
Baseline:  the same with --config.translator.fixed_point=False and output=plain: StarGAN
Hardware, time and score:  docs/results/fixed_point.md
Data:      Buda et al. 2019 (doi:10.1016/j.compbiomed.2019.05.002), lower-grade gliomas of TCGA;
           `brain_lgg_64.npz` holds images, labels, patients and masks of three splits
"""

import ml_collections

from configs import brain_mri


def get_config() -> ml_collections.ConfigDict:
    """Returns the translation of 64 pixels and all training images, small enough for a CPU."""
    config = brain_mri.get_config()
    config.data.source = "npz:brain_lgg_64.npz"
    config.data.real_per_class = 0
    config.data.unlabelled = 0
    translator = config.translator
    translator.domains = "healthy"
    translator.healthy = "no_tumour"
    # Else the height of a slice is what is learned (docs/detection.md#slices). One in five comes as
    # they lie, so that those from where no tumour is are not strange to the translator.
    translator.match_heights = 0.8
    # Networks, rates and weights are those of phantom_translate.py, which says why. Published for
    # BRATS are weights of 1, 10 and 0.1, at 256 pixels and for 60,000 steps.
    translator.width = 16
    translator.blocks = 2
    translator.batch = 8
    translator.g_lr = 2e-4
    translator.d_lr = 3e-4
    translator.domain_weight = 10.0
    translator.cycle_weight = translator.identity_weight = 50.0
    translator.targets = "other"
    translator.augment = ("flip", "shift", "brightness", "contrast")
    translator.steps = 3000
    translator.decay = 0.3
    translator.log_every = 20
    translator.sample_every = translator.checkpoint_every = 500
    detector = config.detector
    detector.width = 8
    detector.batch = 8
    detector.augment = ("flip", "shift", "rotate", "scale", "brightness", "contrast")
    return config
