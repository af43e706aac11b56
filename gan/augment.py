"""Differentiable augmentation of real and generated images alike (Zhao et al. 2020, DiffAugment).

Everything is arithmetic and matrix products: no gathers, so that gradients of any order are fast.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

_SHIFT_SHARE = 0.125
_CUTOUT_SHARE = 0.5
_AXES = ("down", "across")

Shape = tuple[int, int, int, int]

Draws = dict[str, jax.Array]


def _uniform(key: jax.Array, shape: Shape, dtype: jnp.dtype, low: float, high: float) -> jax.Array:
    """One number per image, [B, 1, 1, 1]."""
    return jax.random.uniform(key, (shape[0], 1, 1, 1), dtype, low, high)


def _draw_color(key: jax.Array, shape: Shape, dtype: jnp.dtype) -> Draws:
    keys = jax.random.split(key, 3)
    ranges = {"brightness": (-0.5, 0.5), "saturation": (0, 2), "contrast": (0.5, 1.5)}
    named = zip(keys, ranges.items(), strict=True)
    return {name: _uniform(k, shape, dtype, *limits) for k, (name, limits) in named}


def _color(images: jax.Array, draws: Draws, fill: float) -> jax.Array:
    """Brightness +-0.5, saturation x 0...2, contrast x 0.5...1.5."""
    del fill
    images = images + draws["brightness"]
    if images.shape[-1] > 1:
        grey = images.mean(-1, keepdims=True)
        images = grey + (images - grey) * draws["saturation"]
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + (images - mean) * draws["contrast"]


def _draw_translation(key: jax.Array, shape: Shape, dtype: jnp.dtype) -> Draws:
    del dtype
    draws = {}
    for axis, name in enumerate(_AXES):
        most = round(shape[1 + axis] * _SHIFT_SHARE)
        axis_key = jax.random.fold_in(key, axis)
        draws[name] = jax.random.randint(axis_key, (shape[0],), -most, most + 1)
    return draws


def _shift_matrices(shifts: jax.Array, length: int, dtype: jnp.dtype) -> jax.Array:
    """For shifts [B] the matrices [B, length, length] that move a vector, zeros entering."""
    places = jnp.arange(length)
    return (places[:, None] - shifts[:, None, None] == places).astype(dtype)


def _translation(images: jax.Array, draws: Draws, fill: float) -> jax.Array:
    """Whole-pixel shift of up to an eighth of the size; `fill` enters at the edge."""
    shifted = images - fill
    products = ("bij,bjwc->biwc", "bij,bhjc->bhic")
    for name, length, product in zip(_AXES, images.shape[1:3], products, strict=True):
        matrices = _shift_matrices(draws[name], length, images.dtype)
        shifted = jnp.einsum(product, matrices, shifted, precision="highest")
    return shifted + fill


def _draw_cutout(key: jax.Array, shape: Shape, dtype: jnp.dtype) -> Draws:
    del dtype
    draws = {}
    for axis, name in enumerate(_AXES):
        axis_key = jax.random.fold_in(key, axis)
        draws[name] = jax.random.randint(axis_key, (shape[0], 1), 0, shape[1 + axis])
    return draws


def _cutout(images: jax.Array, draws: Draws, fill: float) -> jax.Array:
    """One rectangle of half the size, centred anywhere in the image, becomes `fill`."""
    inside = []
    for name, length in zip(_AXES, images.shape[1:3], strict=True):
        side = round(length * _CUTOUT_SHARE)
        first = draws[name] - side // 2
        places = jnp.arange(length)
        inside.append((places >= first) & (places < first + side))
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return jnp.where(hole, fill, images)


class Policy(NamedTuple):
    """One augmentation: its random numbers, one row per image, and what it does with them."""

    draw: Callable[[jax.Array, Shape, jnp.dtype], Draws]
    apply: Callable[[jax.Array, Draws, float], jax.Array]


POLICIES = {
    "color": Policy(_draw_color, _color),
    "translation": Policy(_draw_translation, _translation),
    "cutout": Policy(_draw_cutout, _cutout),
}


def draw(key: jax.Array, policy: Sequence[str], shape: Shape, dtype: jnp.dtype) -> list[Draws]:
    """The random numbers of `augment` for images of `shape` [B, H, W, C], each [B, ...].

    Rows can be divided over devices or micro-batches together with their images.

    Raises:
        ValueError: for an unknown name in `policy`.
    """
    for name in policy:
        if name not in POLICIES:
            raise ValueError(f"unknown augmentation {name!r}: give some of {tuple(POLICIES)}")
    return [
        POLICIES[name].draw(jax.random.fold_in(key, index), shape, dtype)
        for index, name in enumerate(policy)
    ]


def augment(
    images: jax.Array, draws: Sequence[Draws], policy: Sequence[str], fill: float = 0.0
) -> jax.Array:
    """Augments every image on its own, differentiably in the images to any order.

    Args:
        images: [B, H, W, C] in [-1, 1]; the result may leave that range.
        draws: of `draw` for the same policy.
        policy: names among `POLICIES`, applied in this order.
        fill: value that translation and cutout put in: 0 as published (mid-grey), -1 for images on
            a black ground.

    Returns:
        [B, H, W, C].
    """
    for name, drawn in zip(policy, draws, strict=True):
        images = POLICIES[name].apply(images, drawn, fill)
    return images
