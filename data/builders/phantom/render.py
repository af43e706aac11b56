"""Phantoms become images: densities are added up, windowed as on film, and made grainy.

The image of an ill phantom and that of its healthy twin are made of the same anatomy and the same
noise; outside the lesion's mask they are equal bit for bit.
"""

import dataclasses

import numpy as np

from data.builders.phantom import lesions, organs, texture
from data.builders.phantom.anatomy import Anatomy
from data.builders.phantom.view import View

# What a site is known by: contrast, brightness, grain, and the corner of its marker (x, y).
_CONTRAST = (1.0, 0.86, 1.14)
_BRIGHTNESS = (0.0, 0.12, -0.10)
_GRAIN = (0.030, 0.055, 0.020)
_MARKER = ((0.80, -0.90), (0.84, 0.72), (0.76, -0.94))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """B images with their truth.

    Attributes:
        image: float32 [B, *shape, 1] in [-1, 1].
        twin: the same without the lesion; healthy phantoms are their own twins.
        mask: bool, the same size, where the lesion is.
        clean: as `image`, before noise was added.
    """

    image: np.ndarray
    twin: np.ndarray
    mask: np.ndarray
    clean: np.ndarray


def render(a: Anatomy, shape: tuple[int, ...]) -> Pictures:
    """Pictures phantoms [B] as radiographs, shape (H, W), or volumes, shape (D, H, W).

    A volume is seen from the front: its first axis goes from the front of the patient to the back,
    and its sum along that axis is nearly the radiograph. Images are bright where much is dense.
    """
    view = View(a, shape)
    heart = organs.heart(a, view)
    lungs = organs.lung(a, view, -1) + organs.lung(a, view, 1)
    lungs = lungs * (1 - organs.bite(a, view))
    twin = _density(a, view, heart, lungs)
    lesion, mask = lesions.add(a, view, heart, lungs)
    fine, cloudy = texture.draw(a, shape)
    noise = view.of(np.take(_GRAIN, a.site)) * (0.7 * fine + 0.7 * cloudy)
    noise = noise + 0.05 * cloudy * lungs
    marker = _marker(a, view)
    healthy, clean = (_film(a, view, density, marker) for density in (twin, twin + lesion))
    noisy, noisy_twin = (np.clip(image + noise, -1, 1) for image in (clean, healthy))
    return Pictures(*(x[..., None] for x in (noisy, noisy_twin, mask, clean)))


def _density(a: Anatomy, view: View, heart: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Density of healthy phantoms, or its sum along the view."""
    bone = view.of(1.1 - 0.4 * (a.age - 20) / 70)  # bones lose chalk with age
    density = organs.body(a, view) + 0.45 * organs.breasts(a, view)
    density -= 1.25 * lungs
    density += organs.HEART * (heart + organs.second_heart(a, view))
    density += 0.7 * organs.mediastinum(a, view)
    density += 0.27 * organs.vessels(a, view) * lungs
    density += bone * (
        1.0 * organs.spine(a, view) + 0.46 * organs.ribs(a, view) + 2.6 * organs.clavicles(a, view)
    )
    return density


def _film(a: Anatomy, view: View, density: np.ndarray, marker: np.ndarray) -> np.ndarray:
    """Blackening of the film, in [-1, 1]: saturates at both ends."""
    gain = 1.9 * view.of(np.take(_CONTRAST, a.site))
    level = 0.62 - view.of(0.5 * np.take(_BRIGHTNESS, a.site) + a.exposure)
    return np.maximum(np.tanh(gain * (density - level)), marker)


def _marker(a: Anatomy, view: View) -> np.ndarray:
    """The letter L that a radiographer puts at the patient's left: 0.9 there, -1 elsewhere."""
    x, y = view.plain
    left, top = (view.of(values) for values in np.take(_MARKER, a.site, axis=0).T)
    dx, dy = x - left, y - top
    stem = (dx >= 0) & (dx < 0.045) & (dy >= 0) & (dy < 0.18)
    foot = (dx >= 0) & (dx < 0.12) & (dy >= 0.135) & (dy < 0.18)
    return np.where(stem | foot, np.float32(0.9), np.float32(-1))
