"""The damaged file of a number, for every kind of file that lies in a folder."""

import pathlib

import numpy as np

from tests.data.fuzzing.arrays import absurd_npy, absurd_png, bomb_png
from tests.data.fuzzing.bytewise import ANY
from tests.data.fuzzing.dicom import absurd_dicom, bomb_dicom
from tests.data.fuzzing.nifti import absurd_nifti, bomb_nifti
from tests.data.fuzzing.tiff import absurd_tiff, bomb_tiff
from tests.data.fuzzing.video import absurd_video, bomb_video
from tests.data.fuzzing.whole import WHOLE

OWN = {
    "folder": (absurd_png, bomb_png), "npy": (absurd_npy, absurd_npy),
    "dicom": (absurd_dicom, bomb_dicom), "nifti": (absurd_nifti, bomb_nifti),
    "tiff": (absurd_tiff, bomb_tiff), "video": (absurd_video, bomb_video),
}  # fmt: skip
_BOMBS = 0.01  # share of bombs: they take seconds to make
_ABSURD = 0.25


def damage(kind: str, seed: int, folder: pathlib.Path) -> tuple[str, bytes]:
    """The damaged file of a number: what was done to it, and its content."""
    rng = np.random.default_rng((7, list(WHOLE).index(kind), seed))
    content = WHOLE[kind](rng, folder)
    draw = rng.random()
    absurd, bomb = OWN[kind]
    if draw < _BOMBS:
        change = bomb
    elif draw < _BOMBS + _ABSURD:
        change = absurd
    else:
        change = ANY[rng.integers(len(ANY))]
    return change.__name__, change(rng, content)
