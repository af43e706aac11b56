"""Transforms of the intensity, pixel by pixel or by a smooth field: exposure, colour, coils, holes.

Each is ``fn(images, rng, strength) -> images`` for float32 [B, H, W, C] or [B, D, H, W, C]. Where a
formula is about intensities that are not negative, [-1, 1] is read as [0, 1].
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from data.augment import fields
from data.augment.streams import Uniform, one_each, symmetric

# Magnitudes at strength 1, all scaled by the strength.
GAMMA = math.log(1.5)
BIAS = 0.3  # largest coefficient of the polynomial whose exponential the bias field is
BIAS_DEGREE = 3
CONTRAST = math.log(1.25)
BRIGHTNESS = 0.2
SATURATION = math.log(1.5)
HUE = math.radians(18)
CUTOUT = 0.3  # of the image size


def _gamma(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    """Power of the intensity in [0, 1], log-uniform, as in nnU-Net (Isensee et al. 2021)."""
    power = np.exp(symmetric(rng, one_each(images)) * np.float32(strength * GAMMA))
    return 2 * np.clip((images + 1) / 2, 0, 1) ** power - 1


def _bias(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    """Multiplies by a smooth field, as the coils of a magnetic resonance scanner do.

    The field is the exponential of a polynomial of degree 3 with no constant term (Van Leemput et
    al. 1999, IEEE TMI 18(10)), its coefficients uniform, as in TorchIO's RandomBiasField.
    """
    sizes = images.shape[1:-1]
    shape = (BIAS_DEGREE + 1,) * len(sizes)
    degree = np.indices(shape).sum(axis=0)
    kept = (degree > 0) & (degree <= BIAS_DEGREE)
    drawn = symmetric(rng, (len(images), 1, *shape)) * np.float32(strength * BIAS) * kept
    log_field = fields.expand(drawn, [fields.power_basis(size, BIAS_DEGREE) for size in sizes])
    return (images + 1) * np.exp(np.moveaxis(log_field, 1, -1)) - 1


def _contrast(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    mean = images.mean(axis=tuple(range(1, images.ndim)), keepdims=True)
    factor = np.exp(symmetric(rng, one_each(images)) * np.float32(strength * CONTRAST))
    return (images - mean) * factor + mean


def _brightness(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    return images + symmetric(rng, one_each(images)) * np.float32(strength * BRIGHTNESS)


def _colour(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    """Scales the distance of three-channel pixels from grey and turns it about the grey axis.

    Saturation and hue as in Karras et al. 2020 (NeurIPS, appendix B); the mean of the three
    channels stays.

    Raises:
        ValueError: not three channels.
    """
    if images.shape[-1] != 3:
        raise ValueError(f"colour jitter needs three channels, not {images.shape[-1]}")
    drawn = symmetric(rng, (len(images), 2)) * np.float32(strength)
    angle = (drawn[:, 0] * np.float32(HUE))[:, None, None]
    saturation = np.exp(drawn[:, 1] * np.float32(SATURATION))[:, None, None]
    grey = np.full((3, 3), 1 / 3, np.float32)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32) / np.float32(math.sqrt(3))
    matrix = grey + saturation * (np.cos(angle) * (np.eye(3, dtype=np.float32) - grey))
    matrix += saturation * np.sin(angle) * across
    flat = images.reshape(len(images), -1, 3) @ matrix.transpose(0, 2, 1)
    return flat.reshape(images.shape)


def _cutout(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    """Replaces one box by the mean of the image (DeVries & Taylor 2017, arXiv 1708.04552).

    Its centre is uniform over the image, so boxes may reach over the edge; it has a pixel at least.
    """
    sizes = images.shape[1:-1]
    centres = np.floor(rng.random((len(images), len(sizes)), np.float32) * np.array(sizes))
    hole = np.True_
    for axis, size in enumerate(sizes):
        side = max(round(size * CUTOUT * strength), int(strength > 0))
        start = (centres[:, axis] - side // 2).reshape(one_each(images))
        place = np.arange(size).reshape(-1, *[1] * (len(sizes) - axis))
        hole = hole & (place >= start) & (place < start + side)
    mean = images.mean(axis=tuple(range(1, images.ndim - 1)), keepdims=True)
    return np.where(hole, mean, images)


# In the order in which they are applied; `degradation.TRANSFORMS` go between the two.
BEFORE: Mapping[str, Callable[[np.ndarray, Uniform, float], np.ndarray]] = {
    "gamma": _gamma,  # first: it needs intensities within the range
    "bias": _bias,
    "contrast": _contrast,
    "brightness": _brightness,
    "colour": _colour,
}
AFTER: Mapping[str, Callable[[np.ndarray, Uniform, float], np.ndarray]] = {"cutout": _cutout}
