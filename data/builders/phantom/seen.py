"""Which lesions an image of the phantom's kind shows, by rules that know where lesions lie.

As `measure` does for organs, so that what a generator makes can be asked for the lesions of the
class it was made for.
"""

import functools

import numpy as np
from scipy import ndimage

from data.builders.phantom.anatomy import LABELS, draw
from data.builders.phantom.measure import SIZE, levels
from data.builders.phantom.render import render

LESIONS = LABELS[1:]
_SPECIFICITY = 0.95  # share of healthy phantoms in which a lesion isn't seen
_HEALTHY, _SEED = 500, 2**31 + 1  # on which that is set: a population of their own
_NODULE_SIZES = (1.5, 2.0)  # pixels, of the Gaussians that nodules are looked for with
_at = (2 * np.arange(SIZE) + 1) / SIZE - 1
_X, _Y = np.meshgrid(_at, _at)
# Where lesions may lie: the upper lungs, the outer and lower ends of both lungs, and where the
# left border of a heart isn't unless it is enlarged.
_UPPER = (np.abs(_X) > 0.2) & (np.abs(_X) < 0.62) & (_Y > -0.5) & (_Y < 0.05)
_CORNERS = [(side * _X > 0.5) & (side * _X < 0.68) & (_Y > 0.25) & (_Y < 0.4) for side in (-1, 1)]
_BORDER = (_X > 0.4) & (_X < 0.5) & (_Y > 0.1) & (_Y < 0.3)


def signs(images: np.ndarray) -> dict[str, np.ndarray]:
    """How much images [B, H, W, 1] of 64 pixels and more look like holding each lesion.

    Returns, each [B]:
        nodule: how far the brightest blob of the upper lungs curves down in its flattest direction.
        effusion: brightness of the outer lower lung, of the brighter side.
        enlarged_heart: brightness beyond the left border of healthy hearts.
        nodule_x, nodule_y: where that blob is, in the phantom's units.
    """
    level = levels(images)
    blobs = np.max([_blobs(level, size) for size in _NODULE_SIZES], axis=0)
    blobs = np.where(_UPPER, blobs, -np.inf).reshape(len(level), -1)
    place = blobs.argmax(1)
    return {
        "nodule": blobs.max(1),
        "effusion": np.max([level[:, corner].mean(1) for corner in _CORNERS], axis=0),
        "enlarged_heart": np.quantile(level[:, _BORDER], 0.3, axis=1),
        "nodule_x": _X.ravel()[place],
        "nodule_y": _Y.ravel()[place],
    }


def _blobs(level: np.ndarray, size: float) -> np.ndarray:
    """The smaller of the two downward curvatures [B, 64, 64]: high on blobs, low on stripes."""

    def derivative(*order: int) -> np.ndarray:
        smooth = (0, size, size)
        return size**2 * ndimage.gaussian_filter(level, smooth, (0, *order), mode="nearest")

    across, down, mixed = derivative(0, 2), derivative(2, 0), derivative(1, 1)
    return -((across + down) / 2 + np.hypot((across - down) / 2, mixed))


@functools.cache
def bounds(shape: tuple[int, int]) -> dict[str, float]:
    """Above which sign each lesion counts as seen, for images (H, W)."""
    who = np.arange(_HEALTHY)
    healthy = draw(_SEED, who, np.zeros_like(who), np.zeros_like(who))
    found = signs(render(healthy, shape).image)
    return {name: float(np.quantile(found[name], _SPECIFICITY)) for name in LESIONS}


def lesions(images: np.ndarray) -> dict[str, np.ndarray]:
    """Which lesions are seen in images [B, H, W, 1], for each of `LESIONS` bool [B].

    5 % of healthy phantoms are thought to have each of them.
    """
    found = signs(images)
    return {name: found[name] > bound for name, bound in bounds(images.shape[1:3]).items()}
