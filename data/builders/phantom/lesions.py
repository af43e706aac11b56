"""What is ill in a phantom: what a lesion adds to the density, and where it lies."""

import numpy as np

from data.builders.phantom import organs
from data.builders.phantom.anatomy import LABELS, Anatomy
from data.builders.phantom.view import View

_NODULE, _EFFUSION, _ENLARGED_HEART = (
    LABELS.index(name) for name in ("nodule", "effusion", "enlarged_heart")
)


def add(
    a: Anatomy, view: View, heart: np.ndarray, lungs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The lesions that the labels name.

    Args:
        a: the phantoms [B].
        view: their view.
        heart: map of the healthy hearts.
        lungs: map of both lungs.

    Returns:
        density: what to add to that of the healthy twin, as large as `heart`; 0 outside the mask.
        mask: bool, the same size: where the lesion is; of an enlarged heart, the whole heart.
    """
    density = np.zeros_like(heart)
    mask = np.zeros(heart.shape, bool)
    for label, make in ((_NODULE, _nodule), (_EFFUSION, _effusion), (_ENLARGED_HEART, _large)):
        ill = a.label == label
        if ill.any():
            some = a.take(ill)
            density[ill], mask[ill] = make(some, view.take(ill), heart[ill], lungs[ill])
    return density, mask


def nodule(a: Anatomy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre x, y and radius [B] of a nodule: in a lung, above heart and diaphragm."""
    side = np.where(a.lesion_side < 0, -1, 1)
    x = side * (a.lung_gap + 0.13 + 0.32 * a.lesion_across)
    return x, -0.42 + 0.4 * a.lesion_down, 0.06 + 0.05 * a.lesion_size


def heart_growth(a: Anatomy) -> np.ndarray:
    """How many times as large an enlarged heart is, [B]."""
    return 1.18 + 0.22 * a.lesion_size


def _nodule(a: Anatomy, view: View, _heart, _lungs) -> tuple[np.ndarray, np.ndarray]:
    x, y, radius = (view.of(value) for value in nodule(a))
    # Denser than its size would make it, or the smallest could not be seen.
    solid = view.ellipsoid((x, y), (radius, radius, 1.8 * radius))
    return 2.4 * solid, solid > 0


def _effusion(a: Anatomy, view: View, _heart, lungs) -> tuple[np.ndarray, np.ndarray]:
    side = view.of(np.where(a.lesion_side < 0, -1, 1))
    across = np.clip(np.abs(view.x) / view.of(a.thorax_width), 0, 1)
    # Fluid lies level and rises along the wall: the meniscus of a real effusion.
    surface = view.of(a.lung_base - a.breath - 0.14 - 0.22 * a.lesion_size) - 0.3 * across**3
    depth = np.clip((view.y - surface) / 0.12, 0, 1) * (side * view.x > 0)
    return 1.15 * lungs * depth, (lungs > 0) & (depth > 0)


def _large(a: Anatomy, view: View, heart, _lungs) -> tuple[np.ndarray, np.ndarray]:
    large = organs.heart(a, view, heart_growth(a))
    return organs.HEART * (large - heart), (large > 0) | (heart > 0)
