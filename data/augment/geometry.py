"""Geometric transforms of images [B, H, W, C] and volumes [B, D, H, W, C].

Used together they are composed into one displacement per pixel and resampled once, so that chaining
them does not blur again and again; pixels from outside repeat the edge. Affine transforms are maps
[B, n, n + 1] from output to input coordinates (…, y, x, 1), measured from the centre in pixels; n
is the number of spatial axes. Volumes are turned and sheared in voxels, whatever their spacing.
The elastic transform is a free-form deformation with cubic B-splines (Rueckert et al. 1999, IEEE
TMI 18(8), eq. 1); random elastic distortion for training is due to Simard et al. 2003 (ICDAR,
section 2).
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np

from data.augment import fields
from data.augment.streams import Uniform, row_blocks, symmetric

# Magnitudes at strength 1, all scaled by the strength.
FLIP_PROBABILITY = 0.5
SHIFT = 0.1  # of the image size, rounded to whole pixels so that shifting alone never blurs
ROTATE = math.radians(15)  # in the image plane; in a volume, in each of the three planes
SCALE = math.log(1.15)
SHEAR = 0.1  # pixels along one axis per pixel along another
ELASTIC = 0.04  # of the image size, largest displacement of a control point
ELASTIC_CELLS = 4  # control grid cells per side

Shape = tuple[int, ...]
Drawn = tuple[np.ndarray, np.ndarray | None]


def identity_maps(count: int, axes: int) -> np.ndarray:
    """Maps float32 [count, axes, axes + 1] that change nothing."""
    maps = np.zeros((count, axes, axes + 1), np.float32)
    maps[:, range(axes), range(axes)] = 1
    return maps


def compose(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Maps [B, n, n + 1] of warping by ``first`` and the result by ``then``."""
    composed = first[:, :, :-1] @ then
    composed[:, :, -1] += first[:, :, -1]
    return composed


def _fresh(shape: Shape) -> np.ndarray:
    return identity_maps(shape[0], len(shape) - 2)


def _flip_maps(shape: Shape, rng: Uniform, strength: float) -> np.ndarray:
    """Mirrors the last spatial axis: left and right are alike in many organs, head and feet not."""
    maps = _fresh(shape)
    mirrored = rng.random((shape[0],), np.float32) < FLIP_PROBABILITY * min(strength, 1)
    maps[:, -1, -2] = np.where(mirrored, -1, 1)
    return maps


def _shift_maps(shape: Shape, rng: Uniform, strength: float) -> np.ndarray:
    maps = _fresh(shape)
    # Half a pixel more on either side makes every whole shift within reach equally probable, and
    # leaves something to do where the reach is below a pixel.
    reach = strength * SHIFT * np.array(shape[1:-1], np.float32)
    drawn = symmetric(rng, (shape[0], len(reach)))
    maps[:, :, -1] = np.rint(drawn * (reach + np.sign(reach) / 2))
    return maps


def _rotate_maps(shape: Shape, rng: Uniform, strength: float) -> np.ndarray:
    planes = list(itertools.combinations(range(len(shape) - 2), 2))
    angles = symmetric(rng, (shape[0], len(planes))) * (strength * ROTATE)
    turns = []
    for (i, j), angle in zip(planes, angles.T, strict=True):
        maps = _fresh(shape)
        maps[:, i, i] = maps[:, j, j] = np.cos(angle)
        maps[:, j, i] = np.sin(angle)
        maps[:, i, j] = -maps[:, j, i]
        turns.append(maps)
    return functools.reduce(compose, turns)


def _scale_maps(shape: Shape, rng: Uniform, strength: float) -> np.ndarray:
    maps = _fresh(shape)
    maps[:, :, :-1] *= np.exp(symmetric(rng, (shape[0], 1, 1)) * (strength * SCALE))
    return maps


def _shear_maps(shape: Shape, rng: Uniform, strength: float) -> np.ndarray:
    maps = _fresh(shape)
    linear = maps[:, :, :-1]  # a view
    others = ~np.eye(linear.shape[-1], dtype=bool)
    linear[:, others] = symmetric(rng, (shape[0], others.sum())) * (strength * SHEAR)
    return maps


def elastic_field(shape: Shape, rng: Uniform, strength: float) -> np.ndarray:
    """Displacements in pixels, float32 [B, n, ...], for a batch of that shape."""
    sizes = shape[1:-1]
    axes, points = len(sizes), ELASTIC_CELLS + 3
    control = symmetric(rng, (shape[0], axes, *[points] * axes)) * (strength * ELASTIC)
    control *= np.array(sizes, np.float32).reshape(-1, *[1] * axes)
    return fields.expand(control, [fields.spline_basis(size, ELASTIC_CELLS) for size in sizes])


# In the order in which they are composed; `elastic` comes after all of them.
MAPS: Mapping[str, Callable[[Shape, Uniform, float], np.ndarray]] = {
    "flip": _flip_maps,
    "shift": _shift_maps,
    "rotate": _rotate_maps,
    "scale": _scale_maps,
    "shear": _shear_maps,
}
NAMES = (*MAPS, "elastic")


def draw(shape: Shape, streams: Mapping[str, Uniform], strength: float) -> Drawn | None:
    """Maps and displacement field of the transforms that have a stream, or None without any."""
    drawn = [make(shape, streams[name], strength) for name, make in MAPS.items() if name in streams]
    if "elastic" in streams:
        field = elastic_field(shape, streams["elastic"], strength)
        return functools.reduce(compose, drawn) if drawn else _fresh(shape), field
    return (functools.reduce(compose, drawn), None) if drawn else None


def warp(
    images: np.ndarray, maps: np.ndarray, field: np.ndarray | None = None, *, nearest: bool = False
) -> np.ndarray:
    """Resample: output pixel p shows the input at ``maps · (p, 1) + field[p]``.

    Args:
        images: [B, H, W, C] or [B, D, H, W, C]; float32, or anything with ``nearest``.
        maps: [B, n, n + 1] float32, output to input, in pixels from the centre.
        field: [B, n, H, W] or [B, n, D, H, W] float32, further displacement in pixels, or None.
        nearest: take the nearest pixel instead of interpolating linearly: for masks.

    Returns:
        Images of the same shape; positions outside take the nearest edge pixel.
    """
    out = np.empty_like(images)
    for block in row_blocks(images.shape):
        part = None if field is None else field[block]
        _warp_block(images[block], maps[block], part, nearest, out[block])
    return out


def _warp_block(
    images: np.ndarray, maps: np.ndarray, field: np.ndarray | None, nearest: bool, out: np.ndarray
) -> None:
    """See `warp`.

    Pixel numbers are computed as floats because NumPy's integer arithmetic and casts cost five
    times as much as everything else here.
    """
    count, *sizes, channels = images.shape
    axes = len(sizes)
    number = np.float32 if count * math.prod(sizes) <= 1 << 24 else np.float64  # counts exactly
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(axes)]
    grid = [
        (np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)).reshape(
            -1, *[1] * (axes - 1 - axis)
        )
        for axis, size in enumerate(sizes)
    ]
    each = (count, *[1] * axes)
    corner = (np.arange(count, dtype=number) * math.prod(sizes)).reshape(each)
    weights: list[np.ndarray] = []
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        position = maps[:, axis, -1].reshape(each) + np.float32((size - 1) / 2)
        for other in reversed(range(axes)):
            position = maps[:, axis, other].reshape(each) * grid[other] + position
        if field is not None:
            position += field[:, axis]
        np.clip(position, 0, size - 1, out=position)
        floor = np.floor(position + np.float32(0.5) if nearest else position)
        position -= floor
        weights.append(position)
        floor = floor.astype(number, copy=False)
        floor *= number(stride)
        floor += corner
        corner = floor
    index = corner.astype(np.intp)  # NumPy gathers several times slower with 32-bit indices
    pixels = images.reshape(-1) if channels == 1 else images.reshape(-1, channels)
    if channels > 1:
        weights = [weight[..., None] for weight in weights]
    steps = [stride * (size > 1) for size, stride in zip(sizes, strides, strict=True)]

    def at(axis: int, offset: int) -> np.ndarray:
        if axis == axes:
            # A neighbour beyond the edge is some other pixel, but its weight is exactly 0.
            return pixels[offset:].take(index, axis=0, mode="clip")
        low, high = at(axis + 1, offset), at(axis + 1, offset + steps[axis])
        high -= low
        high *= weights[axis]
        high += low
        return high

    out[...] = at(axes if nearest else 0, 0).reshape(images.shape)
