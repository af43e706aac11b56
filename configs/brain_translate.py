"""Fixed-Point GAN on slices of brain MRI (FLAIR), with and without a tumour.

Command:   python -m launch.prepare --config=configs/brain_translate.py --workdir=runs/brain \
               --config.data.source=npz:PATH/brain_lgg_64.npz
           python -m launch.train_translator --config=configs/brain_translate.py \
               --workdir=runs/brain
Hardware, time and score:  not measured; a short training of a small network:
           docs/results/fixed_point.md
Data:      Buda et al. 2019 (doi:10.1016/j.compbiomed.2019.05.002), lower-grade gliomas of TCGA;
           `brain_lgg_64.npz` holds images, labels, patients and masks of three splits
"""

import ml_collections

from configs import brain_mri


def get_config() -> ml_collections.ConfigDict:
    """Returns the published settings for BRATS, at 64 pixels and with all training images."""
    config = brain_mri.get_config()
    config.data.source = "npz:brain_lgg_64.npz"
    config.data.real_per_class = 0
    config.data.unlabelled = 0
    translator = config.translator
    translator.domains = "healthy"
    translator.healthy = "no_tumour"
    translator.identity_weight = 0.1
    translator.batch = 8
    translator.steps = 60_000  # 300,000 of the discriminator
    detector = config.detector
    detector.batch = 8
    detector.augment = ("flip", "shift", "rotate", "scale", "brightness", "contrast")
    return config
