"""What a worse scanner does to an image: blur, low resolution and noise.

Each is ``fn(images, rng, strength) -> images`` for float32 [B, H, W, C] or [B, D, H, W, C].
"""

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from data.augment.streams import Uniform, normal, one_each

# Magnitudes at strength 1, all scaled by the strength.
BLUR = 0.75  # pixels, largest standard deviation
LOWRES = 1.0  # octaves of resolution lost at most: half the pixels along every axis
NOISE = 0.1  # largest standard deviation
RICIAN = 0.05  # largest standard deviation of either part, for intensities in [0, 1]


def _blur(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    deviation = rng.random((len(images),), np.float32) * np.float32(strength * BLUR)
    # A radius that followed the deviations drawn would make a row depend on its neighbours.
    return gaussian_blur(images, deviation, radius=math.ceil(4 * BLUR * strength))


def gaussian_blur(images: np.ndarray, deviation: np.ndarray, radius: int) -> np.ndarray:
    """Blur image i with a Gaussian of ``deviation[i]`` pixels, edges repeated.

    Args:
        images: [B, H, W, C] or [B, D, H, W, C] float32.
        deviation: [B], pixels; 0 leaves the image as it is.
        radius: pixels at which the Gaussian is cut off, for all images alike.
    """
    offsets = np.arange(radius + 1)
    variance = np.maximum(deviation.astype(np.float64), 1e-6)[:, None] ** 2
    taps = np.exp(-(offsets**2) / (2 * variance))
    taps /= taps[:, :1] + 2 * taps[:, 1:].sum(axis=1, keepdims=True)
    taps = taps.astype(np.float32).reshape(*taps.shape, *[1] * (images.ndim - 1))
    for axis in range(1, images.ndim - 1):
        size = images.shape[axis]
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(images.ndim)]
        padded = np.pad(images, pad, mode="edge")
        cut = (slice(None),) * axis
        images = taps[:, 0] * padded[(*cut, slice(radius, radius + size))]
        for k in range(1, radius + 1):
            left = padded[(*cut, slice(radius - k, radius - k + size))]
            right = padded[(*cut, slice(radius + k, radius + k + size))]
            images += taps[:, k] * (left + right)
    return images


def _lowres(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    """Reduces and enlarges again, as nnU-Net simulates low resolution (Isensee et al. 2021).

    nnU-Net reduces to the nearest pixel and enlarges with cubic splines; here large pixels are
    means of what they cover, as partial volumes are, and are interpolated linearly.
    """
    zoom = np.exp2(rng.random((len(images),), np.float32) * np.float32(-strength * LOWRES))
    out = np.empty_like(images)
    for i, factor in enumerate(zoom):
        image = images[i]
        for axis, size in enumerate(image.shape[:-1]):
            operator = reduction(size, max(1, round(size * float(factor))))
            image = np.moveaxis(np.tensordot(operator, image, (1, axis)), 0, axis)
        out[i] = image
    return out


@functools.lru_cache(maxsize=512)
def reduction(size: int, pixels: int) -> np.ndarray:
    """Matrix float32 [size, size] that takes a line through ``pixels`` larger pixels and back."""
    edges, line = np.arange(pixels + 1) * (size / pixels), np.arange(size)
    covered = np.minimum(edges[1:, None], line + 1) - np.maximum(edges[:-1, None], line)
    reduce = np.clip(covered, 0, None) * (pixels / size)
    position = np.clip((line + 0.5) * (pixels / size) - 0.5, 0, pixels - 1)
    enlarge = np.clip(1 - np.abs(position[:, None] - np.arange(pixels)), 0, None)
    return (enlarge @ reduce).astype(np.float32)


def _noise(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    deviation = rng.random(one_each(images), np.float32) * np.float32(strength * NOISE)
    return images + deviation * normal(rng, images.shape)


def _rician(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    """Noise of magnitude images of magnetic resonance (Gudbjartsson & Patz 1995, MRM 34(6)).

    The magnitude of the intensity, in [0, 1], plus complex Gaussian noise: where there is no
    signal, its mean is not 0.
    """
    deviation = rng.random(one_each(images), np.float32) * np.float32(strength * RICIAN)
    u = rng.random((len(images), 2, *images.shape[1:]), np.float32)
    radius = deviation * np.sqrt(-2 * np.log(1 - u[:, 0]))
    angle = np.float32(2 * math.pi) * u[:, 1]
    signal = np.clip((images + 1) / 2, 0, None)  # what came before may have left the range
    return 2 * np.hypot(signal + radius * np.cos(angle), radius * np.sin(angle)) - 1


# In the order in which they are applied.
TRANSFORMS: Mapping[str, Callable[[np.ndarray, Uniform, float], np.ndarray]] = {
    "blur": _blur,
    "lowres": _lowres,  # before the noise, which is as fine as the pixels that are read out
    "noise": _noise,
    "rician": _rician,
}
