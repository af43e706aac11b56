"""The anatomy of any image of the phantom's kind, measured by rules: its hearts, ribs and lungs.

It knows where organs lie in phantoms, nothing of the parameters of the one it sees, so it can
measure what a generator makes. Organs are measured at 64 pixels, texture at the image's own size.
"""

import numpy as np
from scipy import ndimage

from data.builders.phantom.anatomy import RIBS
from data.builders.phantom.organs import RIB_SPAN

SIZE = 64
SMALLEST = 64  # ribs of smaller images are one or two pixels wide
# x, y of where hearts may lie, the right place first.
_HEART_ZONES = ((0.24, 0.17), (-0.30, 0.10), (0.40, -0.33), (-0.40, -0.33))
_ZONE_RADIUS = 0.12
_IS_HEART = 0.3  # of the way from the darkness of lungs to that of the mediastinum
_ACROSS = np.linspace(0.26, 0.56, 10)  # where ribs are counted: x, on either side
_APART = 3  # of these places, between two that are compared
_DROP, _WIDTH = 0.28, 0.80  # of the average phantom
_PITCH = RIB_SPAN / (RIBS - 1)
_TOP = -0.78 - _PITCH / 2  # above the first rib
_STEPS = 12  # samples from rib to rib
_IS_RIB = 0.06  # of the same scale, above what lies half a rib's distance away


def levels(images: np.ndarray) -> np.ndarray:
    """Images [B, H, W, 1] at 64 pixels, lungs about 0 and the mediastinum about 1: [B, 64, 64]."""
    return _levels(_resized(images[..., 0].astype(np.float64)))


def measure(images: np.ndarray) -> dict[str, np.ndarray]:
    """Measures images, float [B, H, W, 1] in [-1, 1], at least 64 pixels a side.

    Returns, each [B]:
        hearts: how many there are (int).
        laterality: how much more the left side looks like holding the heart; below 0: the right.
        ribs_right, ribs_left: how many ribs can be counted, where all are there 5 to 7 of 7 (int).
        rib_order: correlation along the course of ribs, low where they are broken or wavy.
        lung_right, lung_left: share of the upper lung that is dark.
        detail: logarithm of the mean change from pixel to pixel, beyond what is smooth.
        checkerboard: how much the four pixels of every 2x2 block differ throughout the image.
        contrast: standard deviation of the image.

    Raises:
        ValueError: images of another shape.
    """
    if images.ndim != 4 or images.shape[-1] != 1 or min(images.shape[1:3]) < SMALLEST:
        raise ValueError(
            f"measured are images [B, H, W, 1] of 64 pixels and more, not {images.shape}"
        )
    own = images[..., 0].astype(np.float64)
    level = levels(images)
    found = _hearts(level) | _lungs(level) | _ribs(level)
    return found | {
        "detail": np.log(np.abs(_laplacian(own)).mean((1, 2)) + 1e-6),
        "checkerboard": _parity(own),
        "contrast": own.std((1, 2)),
    }


def _resized(x: np.ndarray) -> np.ndarray:
    """Linearly resampled to 64x64; smoothed before where that leaves pixels out."""
    factor = np.array(x.shape[1:]) / SIZE
    if (factor == 1).all():
        return x
    smooth = ndimage.gaussian_filter(x, (0, *np.maximum(0, (factor - 1) / 2)), mode="nearest")
    grid = np.meshgrid(*[(np.arange(SIZE) + 0.5) * f - 0.5 for f in factor], indexing="ij")
    return np.stack([ndimage.map_coordinates(one, grid, order=1, mode="nearest") for one in smooth])


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    """Bool [64, 64]: what is nearer to (x, y) than the radius."""
    at = (2 * np.arange(SIZE) + 1) / SIZE - 1
    return np.hypot(at[None, :] - x, at[:, None] - y) < radius


def _box(left: float, right: float, top: float, bottom: float) -> np.ndarray:
    at = (2 * np.arange(SIZE) + 1) / SIZE - 1
    return ((at > left) & (at < right))[None, :] & ((at > top) & (at < bottom))[:, None]


def _levels(x: np.ndarray) -> np.ndarray:
    """Images rescaled so that lungs are about 0 and the mediastinum is about 1."""
    chest = x[:, _box(-0.65, 0.65, -0.6, 0.2)]
    middle = x[:, _box(-0.08, 0.08, -0.3, 0.3)]
    dark, bright = np.quantile(chest, 0.2, axis=1), np.median(middle, axis=1)
    return (x - dark[:, None, None]) / np.maximum(bright - dark, 0.05)[:, None, None]


def _hearts(level: np.ndarray) -> dict[str, np.ndarray]:
    # A low quantile, so that nodules and ribs do not look like hearts.
    scores = np.stack(
        [np.quantile(level[:, _disc(*at, _ZONE_RADIUS)], 0.3, axis=1) for at in _HEART_ZONES]
    )
    return {"hearts": (scores > _IS_HEART).sum(0), "laterality": scores[0] - scores[1]}


def _lungs(level: np.ndarray) -> dict[str, np.ndarray]:
    dark = level < 0.5
    right, left = _box(-0.6, -0.25, -0.6, 0.0), _box(0.25, 0.6, -0.6, 0.0)
    return {"lung_right": dark[:, right].mean(1), "lung_left": dark[:, left].mean(1)}


def _ribs(level: np.ndarray) -> dict[str, np.ndarray]:
    """Looks along the course of ribs, where they become stripes across one profile."""
    down = _TOP + _PITCH * np.arange(RIBS * _STEPS) / _STEPS
    across = _ACROSS / _WIDTH
    fall = _DROP * (1 - np.sqrt(1 - across**2)) * (0.4 + 0.6 * across)
    rows = (down[:, None] + fall + 1) * SIZE / 2 - 0.5
    found, order = {}, []
    for name, side in (("ribs_right", -1), ("ribs_left", 1)):
        columns = np.broadcast_to((side * _ACROSS + 1) * SIZE / 2 - 0.5, rows.shape)
        at = [rows, columns]
        lines = np.stack([ndimage.map_coordinates(one, at, order=1) for one in level])
        half = _STEPS // 2
        sharp = lines[:, half:-half] - (lines[:, : -2 * half] + lines[:, 2 * half :]) / 2
        profile = sharp.mean(2)
        largest = ndimage.maximum_filter1d(profile, _STEPS + 1, axis=1)
        found[name] = ((profile == largest) & (profile > _IS_RIB)).sum(1)
        unit = sharp / np.maximum(np.linalg.norm(sharp, axis=1, keepdims=True), 1e-6)
        order.append((unit[..., _APART:] * unit[..., :-_APART]).sum(1).mean(1))
    return found | {"rib_order": np.minimum(*order)}


def _laplacian(x: np.ndarray) -> np.ndarray:
    centre = x[:, 1:-1, 1:-1]
    return centre - (x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]) / 4


def _parity(x: np.ndarray) -> np.ndarray:
    detail = _laplacian(x)
    means = [detail[:, i::2, j::2].mean((1, 2)) for i in (0, 1) for j in (0, 1)]
    return np.std(means, axis=0)
