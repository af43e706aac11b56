"""Removing what gives a generator away, in real and synthetic images alike.

A VRN's positives are real and its negatives synthetic, so it can win by spotting the generator
instead of the fault: detectors of generated images live on fine texture (Wang et al. 2020,
arXiv 1912.11035). Down-sampling takes that texture from both classes, always; random blur and noise
in training keep the network from leaning on what is left of it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

Array = jax.Array


def remove_traces(images: Array, size: int) -> Array:
    """Antialiased linear down-sampling of [B, H, W, C] to [B, size, size, C]; never up."""
    batch, height, width, channels = images.shape
    shape = (batch, min(size, height), min(size, width), channels)
    return jax.image.resize(images, shape, "linear", antialias=True)


def gaussian_blur(images: Array, sigma: Array) -> Array:
    """Blurs each image [B, H, W, C] by its own sigma [B], in pixels; 0 leaves it as it is.

    One banded matrix per image and axis, as a convolution with a kernel per image is slow. Weights
    that would fall outside are given to the pixels inside.
    """

    def matrix(size: int) -> Array:  # [B, size, size], rows sum to 1
        square = jnp.square(jnp.arange(size)[:, None] - jnp.arange(size)[None, :])
        return jax.nn.softmax(-square / jnp.maximum(2 * jnp.square(sigma), 1e-6)[:, None, None])

    images = jnp.einsum("bih,bhwc->biwc", matrix(images.shape[1]), images)
    return jnp.einsum("bjw,bhwc->bhjc", matrix(images.shape[2]), images)


def jitter(images: Array, key: Array, *, blur: float, noise: float) -> Array:
    """Random blur and noise, drawn alike for every image of [B, H, W, C].

    Args:
      images: in [-1, 1].
      key: randomness.
      blur: largest sigma in pixels; each image draws uniformly from [0, blur].
      noise: largest standard deviation of white noise; drawn likewise.

    Returns:
      Images of the same shape, clipped to [-1, 1].
    """
    blur_key, level_key, noise_key = (jax.random.fold_in(key, i) for i in range(3))
    batch = images.shape[0]
    images = gaussian_blur(images, jax.random.uniform(blur_key, (batch,), maxval=blur))
    level = jax.random.uniform(level_key, (batch, 1, 1, 1), maxval=noise)
    return jnp.clip(images + level * jax.random.normal(noise_key, images.shape), -1, 1)


@dataclasses.dataclass(frozen=True)
class TraceRemoval:
    """The VRN's `ClassifierSpec.prepare`: traces removed always, jitter in training only.

    Attributes:
      size: pixels per side the VRN sees.
      blur: see `jitter`.
      noise: see `jitter`.
    """

    size: int
    blur: float = 1.0
    noise: float = 0.1

    def __call__(self, images: Array, key: Array | None) -> Array:
        """Prepares images [B, H, W, C]; see `ClassifierSpec`."""
        images = remove_traces(images, self.size)
        return images if key is None else jitter(images, key, blur=self.blur, noise=self.noise)
