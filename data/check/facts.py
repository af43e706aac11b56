"""What is kept of one image when a whole source is looked at."""

import dataclasses
import hashlib

import numpy as np
from PIL import Image

from data import images as image_files

SIDE = 32  # of thumbnails, pixels
BINS = 256  # of histograms, over the whole range of a type
# Value of the lowest and highest level of each type; float images lie in [-1, 1].
RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "float32": (-1.0, 1.0)}


@dataclasses.dataclass(frozen=True)
class Facts:
    """One image.

    Attributes:
        shape: (H, W, C).
        depth: slices of a volume; 1 of an image.
        dtype: of the pixels.
        low, high, mean: of the pixels, NaN if one of them is.
        grey: whether it has one channel, or three that are the same.
        digest: of type, shape and pixels, 16 bytes.
        histogram: int64 [BINS] over `RANGES`; None for other types.
        thumbnail: uint8 [SIDE, SIDE], grey, from the darkest to the brightest of the image, or of
            the middle slice of a volume.
    """

    shape: tuple[int, int, int]
    depth: int
    dtype: str
    low: float
    high: float
    mean: float
    grey: bool
    digest: bytes
    histogram: np.ndarray | None
    thumbnail: np.ndarray


def facts(pixels: np.ndarray) -> Facts:
    """Looks at pixels [H, W, C] or [D, H, W, C] of any numeric type."""
    pixels = np.ascontiguousarray(pixels)
    shape, dtype = pixels.shape, pixels.dtype.name
    hasher = hashlib.blake2b(repr((shape, dtype)).encode(), digest_size=16)
    hasher.update(pixels.data)
    low, high = float(pixels.min()), float(pixels.max())
    same = shape[-1] == 3 and (pixels == pixels[..., :1]).all()
    return Facts(
        shape=shape[-3:],
        depth=1 if pixels.ndim == 3 else len(pixels),
        dtype=dtype,
        low=low,
        high=high,
        mean=float(pixels.mean(dtype=np.float64)),
        grey=shape[-1] == 1 or bool(same),
        digest=hasher.digest(),
        histogram=_histogram(pixels),
        thumbnail=_thumbnail(middle(pixels)),
    )


def middle(pixels: np.ndarray) -> np.ndarray:
    """The image [H, W, C] itself, or the middle slice of a volume [D, H, W, C]."""
    return pixels if pixels.ndim == 3 else pixels[len(pixels) // 2]


def _histogram(pixels: np.ndarray) -> np.ndarray | None:
    """Counts [BINS] of all values over the range of their type; beyond it, in the last bins."""
    if pixels.dtype == np.uint8:
        levels = pixels
    elif pixels.dtype == np.uint16:
        levels = pixels >> 8
    elif pixels.dtype == np.float32:
        levels = np.clip(np.nan_to_num(pixels + 1) * (BINS / 2), 0, BINS - 1).astype(np.uint8)
    else:
        return None
    return np.bincount(levels.ravel(), minlength=BINS)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Means of equal areas [SIDE, SIDE], stretched to 0..255; all 0 where nothing varies."""
    values = pixels.astype(np.float32)
    grey = image_files.set_channels(values, 1)[..., 0] if values.shape[2] == 3 else values[..., 0]
    grey = np.nan_to_num(grey, posinf=0, neginf=0)
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX))
    low, high = small.min(), small.max()
    if not low < high:
        return np.zeros((SIDE, SIDE), np.uint8)
    return np.rint((small - low) / (high - low) * 255).astype(np.uint8)
