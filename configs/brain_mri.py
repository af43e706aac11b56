"""The loop on slices of brain MRI (FLAIR) in DICOM files: with and without a tumour.

Command:   python -m launch.pipeline --config=configs/brain_mri.py --workdir=runs/brain \
               --config.data.source=dicom:PATH --config.data.labels=PATH/labels.csv
Hardware, time, score and how the files are made:  docs/results/two_formats.md
Data:      Buda et al. 2019 (doi:10.1016/j.compbiomed.2019.05.002), lower-grade gliomas of TCGA
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the brain slice experiment: 100 labelled slices per class, the others unlabelled."""
    config = default.get_config()
    config.data.source = "dicom:brain"
    config.data.size = 64
    # Slices above and below the brain are nearly empty, and would tell "no tumour" by themselves.
    config.data.preprocess = ("drop_blank(0.1)", "resize")
    config.data.real_per_class = 100
    config.data.unlabelled = -1
    # Brains are nearly symmetric, and tumours lie on either side.
    config.data.augment = ("flip", "shift", "rotate", "scale", "brightness", "contrast", "noise")
    config.gan.steps = 3000
    config.features.stem = "imagenet"
    config.target.stem = "imagenet"
    # The arms that answer most, so that the whole loop stays within half an hour.
    config.target.arms = ("real", "classical", "random", "vrn")
    config.target.steps = 200
    return config
