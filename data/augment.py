"""Classical augmentation of image batches: named, seeded transforms with one strength.

Images are [B, H, W, C] float32 in [-1, 1] and stay there. Geometric transforms used together are
composed into one displacement per pixel and resampled once (bilinear), so that chaining them does
not blur again and again; pixels from outside repeat the edge. The elastic one is a free-form
deformation with cubic B-splines (Rueckert et al. 1999, IEEE TMI 18(8), eq. 1); random elastic
distortion for training is due to Simard et al. 2003 (ICDAR, section 2).
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from data.errors import UserError

# Magnitudes at strength 1, all scaled by the strength.
FLIP_PROBABILITY = 0.5
SHIFT = 0.1  # of the image size, rounded to whole pixels so that shifting alone never blurs
ROTATE = math.radians(15)
SCALE = math.log(1.15)
ELASTIC = 0.04  # of the image size, largest displacement of a control point
ELASTIC_CELLS = 4  # control grid cells per side
BRIGHTNESS = 0.2
CONTRAST = math.log(1.25)
NOISE = 0.1  # largest standard deviation
BLUR = 0.75  # pixels, largest standard deviation

# Batches are worked on in blocks of about this many numbers: temporaries then stay in the cache and
# in the allocator's hands. Whole-batch temporaries spend most of the time in page faults.
_BLOCK_NUMBERS = 1 << 16


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Row ranges of a batch [B, ...] of about `_BLOCK_NUMBERS` numbers each."""
    rows = max(1, _BLOCK_NUMBERS // math.prod(shape[1:]))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


class Uniform(Protocol):
    """The one thing asked of a random generator; `numpy.random.Generator` has it."""

    def random(self, size: tuple[int, ...], dtype: type) -> np.ndarray:
        """Uniform numbers in [0, 1)."""


class RowStream:
    """Random numbers for rows ``first_row…`` of a batch, without drawing those of the other rows.

    Row r gets the same numbers whichever process asks, because each row owns a fixed stretch of a
    counter-based generator (Philox; Salmon et al. 2011, SC'11).
    """

    _STEP = 8  # float32 numbers per Philox counter step

    def __init__(self, key: np.ndarray, first_row: int) -> None:
        """Stream for a Philox key (uint64 [2]), see `stream_key`, from a row of the batch on."""
        self._key, self._first_row, self._calls = key, first_row, 0

    def random(self, size: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """Uniform numbers ``size`` = (rows, ...) in [0, 1)."""
        rows, per_row = size[0], math.prod(size[1:])
        blocks = -(-per_row // self._STEP)
        # Counter words from the lowest: position in the call's stream, …, number of the call.
        counter = np.array([self._first_row * blocks, 0, 0, self._calls], np.uint64)
        self._calls += 1
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        drawn = generator.random((rows, blocks * self._STEP), np.float32)
        return drawn[:, :per_row].reshape(size).astype(dtype, copy=False)


def stream_key(seed: tuple[int, ...]) -> np.ndarray:
    """Philox key uint64 [2] for a tuple of non-negative integers."""
    return np.random.SeedSequence(seed).generate_state(2, np.uint64)


def _symmetric(rng: Uniform, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform float32 numbers in [-1, 1)."""
    return 2 * rng.random(shape, np.float32) - 1


# --- geometry: each returns maps [B, 2, 3] from output to input coordinates (y, x, 1), measured
# --- from the image centre in pixels, or a displacement field [B, 2, H, W]


def _maps(count: int) -> np.ndarray:
    maps = np.zeros((count, 2, 3), np.float32)
    maps[:, 0, 0] = maps[:, 1, 1] = 1
    return maps


def _flip_maps(shape: tuple[int, ...], rng: Uniform, strength: float) -> np.ndarray:
    maps = _maps(shape[0])
    mirrored = rng.random((shape[0],), np.float32) < FLIP_PROBABILITY * min(strength, 1)
    maps[:, 1, 1] = np.where(mirrored, -1, 1)
    return maps


def _shift_maps(shape: tuple[int, ...], rng: Uniform, strength: float) -> np.ndarray:
    maps = _maps(shape[0])
    # Half a pixel more on either side makes every whole shift within reach equally probable, and
    # leaves something to do where the reach is below a pixel.
    reach = strength * SHIFT * np.array(shape[1:3], np.float32)
    maps[:, :, 2] = np.rint(_symmetric(rng, (shape[0], 2)) * (reach + np.sign(reach) / 2))
    return maps


def _rotate_maps(shape: tuple[int, ...], rng: Uniform, strength: float) -> np.ndarray:
    maps = _maps(shape[0])
    angle = _symmetric(rng, (shape[0],)) * (strength * ROTATE)
    maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angle)
    maps[:, 1, 0] = np.sin(angle)
    maps[:, 0, 1] = -maps[:, 1, 0]
    return maps


def _scale_maps(shape: tuple[int, ...], rng: Uniform, strength: float) -> np.ndarray:
    maps = _maps(shape[0])
    maps[:, :2, :2] *= np.exp(_symmetric(rng, (shape[0], 1, 1)) * (strength * SCALE))
    return maps


def _elastic_field(shape: tuple[int, ...], rng: Uniform, strength: float) -> np.ndarray:
    count, height, width = shape[:3]
    points = ELASTIC_CELLS + 3
    control = _symmetric(rng, (count, 2, points, points)) * (strength * ELASTIC)
    control *= np.array([height, width], np.float32)[:, None, None]
    return _spline_basis(height) @ control @ _spline_basis(width).T


@functools.lru_cache(maxsize=32)
def _spline_basis(size: int) -> np.ndarray:
    """Cubic B-spline weights [size, control points] of pixel centres; rows sum to 1."""
    position = (np.arange(size) + 0.5) / size * ELASTIC_CELLS
    distance = np.abs(position[:, None] - (np.arange(ELASTIC_CELLS + 3) - 1))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


def warp(images: np.ndarray, maps: np.ndarray, field: np.ndarray | None = None) -> np.ndarray:
    """Resample bilinearly: output pixel p shows the input at ``maps · (p, 1) + field[p]``.

    Args:
        images: [B, H, W, C] float32.
        maps: [B, 2, 3] float32, output to input, (y, x) in pixels from the image centre.
        field: [B, 2, H, W] float32, further displacement in pixels, or None.

    Returns:
        Images of the same shape; positions outside take the nearest edge pixel.
    """
    out = np.empty_like(images)
    for block in _blocks(images.shape):
        _warp_block(images[block], maps[block], None if field is None else field[block], out[block])
    return out


def _warp_block(
    images: np.ndarray, maps: np.ndarray, field: np.ndarray | None, out: np.ndarray
) -> None:
    """See `warp`; few enough pixels that float32 counts them exactly.

    Pixel numbers are computed in float32 because NumPy's integer arithmetic and casts cost five
    times as much as everything else here.
    """
    count, height, width, channels = images.shape
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32((height - 1) / 2)
    x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
    corner = (np.arange(count, dtype=np.float32) * (height * width))[:, None, None]
    weights: list[np.ndarray] = []
    for axis, (size, stride) in enumerate(((height, width), (width, 1))):
        a, b, c = (maps[:, axis, k, None, None] for k in range(3))
        position = a * y + (b * x + (c + np.float32((size - 1) / 2)))
        if field is not None:
            position += field[:, axis]
        np.clip(position, 0, size - 1, out=position)
        floor = np.floor(position)
        position -= floor
        weights.append(position)
        floor *= np.float32(stride)
        floor += corner
        corner = floor
    index = corner.astype(np.intp)  # NumPy gathers several times slower with 32-bit indices
    pixels = images.reshape(-1) if channels == 1 else images.reshape(-1, channels)
    if channels > 1:
        weights = [weight[..., None] for weight in weights]

    below, beside = width * (height > 1), int(width > 1)

    def gather(offset: int) -> np.ndarray:
        # A neighbour beyond the edge is some other pixel, but its weight is exactly 0.
        return pixels[offset:].take(index, axis=0, mode="clip")

    def row(offset: int) -> np.ndarray:
        left, right = gather(offset), gather(offset + beside)
        right -= left
        right *= weights[1]
        right += left
        return right

    top, bottom = row(0), row(below)
    bottom -= top
    bottom *= weights[0]
    bottom += top
    out[...] = bottom.reshape(images.shape)


def _affine_transform(make_maps: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def transform(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
        return warp(images, make_maps(images.shape, rng, strength))

    return transform


def _elastic(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    return warp(images, _maps(len(images)), _elastic_field(images.shape, rng, strength))


# --- intensity -----------------------------------------------------------------------------------


def _brightness(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    return images + _symmetric(rng, (len(images), 1, 1, 1)) * np.float32(strength * BRIGHTNESS)


def _contrast(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    factor = np.exp(_symmetric(rng, (len(images), 1, 1, 1)) * np.float32(strength * CONTRAST))
    return (images - mean) * factor + mean


def _noise(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    deviation = rng.random((len(images), 1, 1, 1), np.float32) * np.float32(strength * NOISE)
    return images + deviation * _normal(rng, images.shape)


def _normal(rng: Uniform, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 numbers by Box and Muller (1958).

    It takes a fixed number of uniform ones each, so every row can own a stretch of the stream.
    """
    per_row = math.prod(shape[1:])
    half = -(-per_row // 2)
    u = rng.random((shape[0], 2, half), np.float32)
    radius = np.sqrt(-2 * np.log(1 - u[:, 0]))
    angle = np.float32(2 * math.pi) * u[:, 1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return normal[:, :per_row].reshape(shape)


def _blur(images: np.ndarray, rng: Uniform, strength: float) -> np.ndarray:
    deviation = rng.random((len(images),), np.float32) * np.float32(strength * BLUR)
    # A radius that followed the deviations drawn would make a row depend on its neighbours.
    return gaussian_blur(images, deviation, radius=math.ceil(4 * BLUR * strength))


def gaussian_blur(images: np.ndarray, deviation: np.ndarray, radius: int) -> np.ndarray:
    """Blur image i with a Gaussian of ``deviation[i]`` pixels, edges repeated.

    Args:
        images: [B, H, W, C] float32.
        deviation: [B], pixels; 0 leaves the image as it is.
        radius: pixels at which the Gaussian is cut off, for all images alike.
    """
    offsets = np.arange(radius + 1)
    variance = np.maximum(deviation.astype(np.float64), 1e-6)[:, None] ** 2
    taps = np.exp(-(offsets**2) / (2 * variance))
    taps /= taps[:, :1] + 2 * taps[:, 1:].sum(axis=1, keepdims=True)
    taps = taps.astype(np.float32)[:, :, None, None, None]
    for axis in (1, 2):
        size = images.shape[axis]
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
        padded = np.pad(images, pad, mode="edge")
        cut = (slice(None),) * axis
        images = taps[:, 0] * padded[(*cut, slice(radius, radius + size))]
        for k in range(1, radius + 1):
            left = padded[(*cut, slice(radius - k, radius - k + size))]
            right = padded[(*cut, slice(radius + k, radius + k + size))]
            images += taps[:, k] * (left + right)
    return images


_MAPS = {
    "flip": _flip_maps,
    "shift": _shift_maps,
    "rotate": _rotate_maps,
    "scale": _scale_maps,
}
_INTENSITY = {
    "contrast": _contrast,
    "brightness": _brightness,
    "blur": _blur,
    "noise": _noise,
}
# Every transform by name: fn(images [B, H, W, C], rng, strength) -> images.
TRANSFORMS: dict[str, Callable[[np.ndarray, Uniform, float], np.ndarray]] = {
    **{name: _affine_transform(maps) for name, maps in _MAPS.items()},
    "elastic": _elastic,
    **_INTENSITY,
}


def check_names(names: Sequence[str]) -> None:
    """Raise UserError unless every name is one of `TRANSFORMS`."""
    for name in names:
        if name not in TRANSFORMS:
            raise UserError(
                f"there is no augmentation '{name}'; choose from {', '.join(TRANSFORMS)}."
            )


def augment(
    images: np.ndarray,
    names: Sequence[str],
    strength: float,
    seed: tuple[int, ...],
    *,
    first_row: int = 0,
) -> np.ndarray:
    """Apply the named transforms to a batch, each image with its own random parameters.

    The order is fixed, whatever the order of the names: geometry (in one warp), contrast,
    brightness, blur, noise, and clipping to [-1, 1]. Each transform's randomness depends on the
    seed and its name only, so adding one leaves the others' choices as they were.

    Args:
        images: [B, H, W, C] float32 in [-1, 1].
        names: of `TRANSFORMS`.
        strength: 0 = identity, 1 = the magnitudes above.
        seed: the only randomness, for instance (seed, step).
        first_row: which row of the global batch ``images[0]`` is; rows get the same parameters
            however a batch is divided.

    Raises:
        UserError: an unknown name.
    """
    check_names(names)
    if strength == 0 or not names:
        return images
    keys = {
        name: stream_key((*seed, number)) for number, name in enumerate(TRANSFORMS) if name in names
    }
    out = np.empty_like(images)
    for block in _blocks(images.shape):
        streams = {name: RowStream(key, first_row + block.start) for name, key in keys.items()}
        out[block] = _augment_block(images[block], strength, streams)
    return np.clip(out, -1, 1, out=out)


def _augment_block(
    images: np.ndarray, strength: float, streams: Mapping[str, RowStream]
) -> np.ndarray:
    """Apply the transforms that have a stream; see `augment`."""
    maps, field = None, None
    for name, make_maps in _MAPS.items():
        if name in streams:
            then = make_maps(images.shape, streams[name], strength)
            maps = then if maps is None else _compose(maps, then)
    if "elastic" in streams:
        field = _elastic_field(images.shape, streams["elastic"], strength)
    if maps is not None or field is not None:
        images = warp(images, _maps(len(images)) if maps is None else maps, field)
    for name, transform in _INTENSITY.items():
        if name in streams:
            images = transform(images, streams[name], strength)
    return images


def _compose(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Maps [B, 2, 3] of warping by ``first`` and the result by ``then``."""
    composed = first[:, :, :2] @ then
    composed[:, :, 2] += first[:, :, 2]
    return composed
