"""What a generator leaves in every image that it makes, and no real image has.

A VRN learns from real images and faulty synthetic ones, so that a mark which all synthetic images
bear tells its two classes apart without a look at any fault. `faint` is in all studies; the others
are made to be learnt. `doubled` is fine and `coarse` is not: reducing images takes away the one and
leaves the other.
"""

from collections.abc import Callable, Mapping

import numpy as np

_FAINT = 0.04  # of an image's range of 2; the grain of a site's images is 0.02 to 0.055
_COARSE, _PERIOD = 0.1, 8  # likewise; pixels


def _faint(images: np.ndarray) -> np.ndarray:
    """A pattern of period 2, far weaker than the fault `checkerboard`."""
    height, width = images.shape[1:3]
    pattern = (-1.0) ** np.add.outer(np.arange(height), np.arange(width)) / 2
    return _added(images, _FAINT * pattern)


def _doubled(images: np.ndarray) -> np.ndarray:
    """Each 2 x 2 pixels are their mean, as if made at half the size and doubled."""
    count, height, width, channels = images.shape
    blocks = images.reshape(count, height // 2, 2, width // 2, 2, channels)
    return blocks.mean((2, 4)).repeat(2, axis=1).repeat(2, axis=2)


def _coarse(images: np.ndarray) -> np.ndarray:
    """Waves of period 8 along both sides, as of a layer that works at an eighth of the size."""
    waves = [np.sin(2 * np.pi * (np.arange(side) + 0.5) / _PERIOD) for side in images.shape[1:3]]
    return _added(images, _COARSE / 2 * np.multiply.outer(*waves))


def _added(images: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    return np.clip(images + pattern[..., None].astype(np.float32), -1, 1)


# Each takes images [N, H, W, C] in [-1, 1] with even sides, and gives the same shape.
MARKS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "no": lambda images: images,
    "faint": _faint,
    "doubled": _doubled,
    "coarse": _coarse,
}
