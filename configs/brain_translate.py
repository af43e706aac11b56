"""Fixed-Point GAN on slices of brain MRI (FLAIR), with and without a tumour.

Command:   python -m launch.prepare --config=configs/brain_translate.py --workdir=runs/brain \
               --config.data.source=npz:PATH/brain_lgg_64.npz
           python -m launch.train_translator --config=configs/brain_translate.py \
               --workdir=runs/brain
StarGAN:   the same with another --workdir, --config.translator.fixed_point=False and
               --config.translator.output=plain
Hardware, time and score:  docs/results/fixed_point.md
Data:      Buda et al. 2019 (doi:10.1016/j.compbiomed.2019.05.002), lower-grade gliomas of TCGA;
           `brain_lgg_64.npz` holds images, labels, patients and masks of three splits
"""

import ml_collections

from configs import brain_mri, small_translator


def get_config() -> ml_collections.ConfigDict:
    """Returns the translation of 64 pixels and all training images, small enough for a CPU."""
    config = brain_mri.get_config()
    config.data.source = "npz:brain_lgg_64.npz"
    config.data.real_per_class = 0
    config.data.unlabelled = 0
    small_translator.settle(config)
    translator = config.translator
    translator.domains = "healthy"
    translator.healthy = "no_tumour"
    # Else the height of a slice is what is learned (docs/detection.md#slices). One in five comes as
    # they lie, so that those from where no tumour is are not strange to the translator.
    translator.match_heights = 0.8
    translator.augment = ("flip", "shift", "brightness", "contrast")
    detector = config.detector
    detector.augment = ("flip", "shift", "rotate", "scale", "brightness", "contrast")
    return config
