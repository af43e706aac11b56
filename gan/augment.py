"""Differentiable augmentation of real and generated images alike (Zhao et al. 2020, DiffAugment).

Everything is arithmetic and matrix products: no gathers, so that gradients of any order are fast.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

_SHIFT_SHARE = 0.125
_CUTOUT_SHARE = 0.5


def _uniform(key: jax.Array, images: jax.Array, low: float, high: float) -> jax.Array:
    """One number per image, [B, 1, 1, 1]."""
    return jax.random.uniform(key, (images.shape[0], 1, 1, 1), images.dtype, low, high)


def _color(images: jax.Array, key: jax.Array, fill: float) -> jax.Array:
    """Brightness +-0.5, saturation x 0...2, contrast x 0.5...1.5."""
    del fill
    keys = jax.random.split(key, 3)
    images = images + _uniform(keys[0], images, -0.5, 0.5)
    if images.shape[-1] > 1:
        grey = images.mean(-1, keepdims=True)
        images = grey + (images - grey) * _uniform(keys[1], images, 0, 2)
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + (images - mean) * _uniform(keys[2], images, 0.5, 1.5)


def _shift_matrices(shifts: jax.Array, length: int, dtype: jnp.dtype) -> jax.Array:
    """For shifts [B] the matrices [B, length, length] that move a vector, zeros entering."""
    places = jnp.arange(length)
    return (places[:, None] - shifts[:, None, None] == places).astype(dtype)


def _translation(images: jax.Array, key: jax.Array, fill: float) -> jax.Array:
    """Whole-pixel shift of up to an eighth of the size; `fill` enters at the edge."""
    batch, height, width, _ = images.shape
    shifted = images - fill
    products = ("bij,bjwc->biwc", "bij,bhjc->bhic")
    for axis, (length, product) in enumerate(zip((height, width), products, strict=True)):
        most = round(length * _SHIFT_SHARE)
        axis_key = jax.random.fold_in(key, axis)
        shifts = jax.random.randint(axis_key, (batch,), -most, most + 1)
        matrices = _shift_matrices(shifts, length, images.dtype)
        shifted = jnp.einsum(product, matrices, shifted, precision="highest")
    return shifted + fill


def _cutout(images: jax.Array, key: jax.Array, fill: float) -> jax.Array:
    """One rectangle of half the size, centred anywhere in the image, becomes `fill`."""
    batch, height, width, _ = images.shape
    inside = []
    for axis, length in enumerate((height, width)):
        side = round(length * _CUTOUT_SHARE)
        axis_key = jax.random.fold_in(key, axis)
        first = jax.random.randint(axis_key, (batch, 1), 0, length) - side // 2
        places = jnp.arange(length)
        inside.append((places >= first) & (places < first + side))
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return jnp.where(hole, fill, images)


POLICIES = {"color": _color, "translation": _translation, "cutout": _cutout}


def diff_augment(
    images: jax.Array,
    key: jax.Array,
    policy: Sequence[str] = ("color", "translation", "cutout"),
    fill: float = 0.0,
) -> jax.Array:
    """Augments every image on its own, differentiably in the images to any order.

    Args:
        images: [B, H, W, C] in [-1, 1]; the result may leave that range.
        key: random key.
        policy: names among `POLICIES`, applied in this order.
        fill: value that translation and cutout put in: 0 as published (mid-grey), -1 for images on
            a black ground.

    Returns:
        [B, H, W, C].

    Raises:
        ValueError: for an unknown name in `policy`.
    """
    for index, name in enumerate(policy):
        if name not in POLICIES:
            raise ValueError(f"unknown augmentation {name!r}: give some of {tuple(POLICIES)}")
        images = POLICIES[name](images, jax.random.fold_in(key, index), fill)
    return images
