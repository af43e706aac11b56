"""An image on its way from a file to a record."""

import dataclasses
from typing import Any

import numpy as np

# What the inverse of a step must know of an image, as JSON.
Undo = dict[str, Any]
UNKNOWN = (float("nan"), float("nan"))


@dataclasses.dataclass(frozen=True)
class Image:
    """Pixels, and what they stand for.

    Attributes:
        values: [H, W, C], or [D, H, W, C] of a volume: pixels as they are stored, or float64 in the
            units of the file.
        low, high: what the darkest and the brightest pixel stand for, in the units of the file;
            low > high where dark and bright are exchanged.
        dtype: of the stored pixels: uint8, uint16 or float32.
        spacing: mm between rows and between columns, before them between the slices of a volume;
            NaN where unknown, or none at all.
        window: ends of the window in the file's header, in its units; NaN where there is none.
        affine: [4, 4] from voxels (d, h, w, 1) to mm, or None; see `Picture`.
        mask: [H, W], or [D, H, W] of a volume, uint8, or None; it follows the frame of the values.
    """

    values: np.ndarray
    low: float
    high: float
    dtype: np.dtype
    spacing: tuple[float, ...] = ()
    window: tuple[float, float] = UNKNOWN
    affine: np.ndarray | None = None
    mask: np.ndarray | None = None

    @property
    def in_units(self) -> bool:
        """Whether the values are those of the file rather than stored pixels."""
        return self.values.dtype == np.float64

    @property
    def darkest(self) -> float:
        """The value that is shown black."""
        if self.in_units:
            return self.low
        return -1.0 if self.dtype == np.float32 else 0.0

    def replace(self, **changes: Any) -> "Image":
        """This image with other values of some attributes."""
        return dataclasses.replace(self, **changes)


def to_units(image: Image) -> Image:
    """Stored pixels as float64 in the units of the file; as they are where these are unknown."""
    top = top_of(image.dtype)
    pixels = image.values.astype(np.float64)
    unit = pixels / top if image.dtype != np.float32 else (pixels + 1) / 2
    low, high = image.low, image.high
    if not (np.isfinite(low) and np.isfinite(high)):
        low, high = (-1.0, 1.0) if image.dtype == np.float32 else (0.0, float(top))
    return image.replace(values=low + unit * (high - low), low=low, high=high)


def to_pixels(values: np.ndarray, low: float, high: float, dtype: np.dtype) -> np.ndarray:
    """Values in units as stored pixels: `low` is the darkest and `high` the brightest.

    A step where both are the same. The error is at most half a quantum: (high - low) / top / 2.
    """
    if low == high:
        unit = (values > low).astype(np.float64)
    else:
        unit = np.clip((values - low) / (high - low), 0, 1)
    if dtype == np.float32:
        return (2 * unit - 1).astype(np.float32)
    return np.rint(unit * top_of(dtype)).astype(dtype)


def top_of(dtype: np.dtype) -> int:
    """The brightest stored pixel."""
    return 1 if dtype == np.float32 else int(np.iinfo(dtype).max)
