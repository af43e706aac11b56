"""Faults of generated images, put into phantoms with the truth about each.

Those of organs are faults of the anatomy and pictured like any other, with the image's own noise:
every patch of them looks right, the whole is absurd. The others are faults of texture. The kinds
are those that US 2021/0279869 reports of converged GANs (mangled lungs and ribs, ribs that vanish,
two heart-like shapes), and what upsampling layers and collapsed generators are known for.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from data.builders.phantom.anatomy import FAULT, RIBS, Anatomy, stream
from data.builders.phantom.render import Pictures, render

ABSURD = ("two_hearts", "vanished_ribs", "mangled_ribs", "mangled_lung", "wrong_laterality")
TEXTURE = ("checkerboard", "blur", "blank")
KINDS = ABSURD + TEXTURE
NONE = -1


@dataclasses.dataclass(frozen=True)
class Faulty:
    """B images, some of them with a fault.

    Attributes:
        pictures: the images with their lesions, fault included.
        kind: int64 [B], of KINDS, NONE where there is no fault.
        mask: bool [B, *shape, 1], where the fault changed the image.
    """

    pictures: Pictures
    kind: np.ndarray
    mask: np.ndarray


def inject(a: Anatomy, kinds: np.ndarray, shape: tuple[int, ...]) -> Faulty:
    """Pictures phantoms [B] with a fault each, of `kinds` [B]: indices into KINDS, or NONE.

    The same phantom with the same kind has the same fault, whatever else is pictured with it.
    """
    kinds = np.asarray(kinds, np.int64)
    rows = [
        stream(a.seed, FAULT, p, v, kind + 1).random(6)
        for p, v, kind in zip(a.patient, a.visit, kinds, strict=True)
    ]
    random = np.array(rows, np.float32)
    torn = render(_absurd(a, kinds, random), shape)
    whole = torn.image.copy()
    absurd = (kinds != NONE) & (kinds < len(ABSURD))
    if absurd.any():  # the others are whole in both
        whole[absurd] = render(a.take(absurd), shape).image
    image, clean, twin = torn.image.copy(), torn.clean.copy(), torn.twin.copy()
    for kind, spoil in enumerate((_checkerboard, _blur, _blank), start=len(ABSURD)):
        for i in np.flatnonzero(kinds == kind):
            for pictured in (image, clean, twin):
                pictured[i, ..., 0] = spoil(pictured[i, ..., 0], random[i])
    pictures = Pictures(image, twin, torn.mask, clean)
    return Faulty(pictures, kinds, image != whole)


def _absurd(a: Anatomy, kinds: np.ndarray, random: np.ndarray) -> Anatomy:
    """The anatomies with the faults that are faults of anatomy."""
    second, ribs, broken = a.second_heart.copy(), a.ribs.copy(), a.rib_break.copy()
    bite, mirror = a.bite.copy(), a.mirror.copy()
    for i, (kind, u) in enumerate(zip(kinds, random, strict=True)):
        side = int(u[0] < 0.5)  # 0 right, 1 left
        outward = 2 * side - 1
        match KINDS[kind] if kind != NONE else "none":
            case "two_hearts":
                # A mirror image of the heart, or another heart in an upper lung.
                low = u[1] < 0.5
                x = -0.36 - 0.06 * u[2] if low else outward * (0.38 + 0.06 * u[2])
                second[i] = x, (0.08 if low else -0.36) + 0.06 * u[3], 0.85 + 0.15 * u[4]
            case "vanished_ribs":
                count = 3 + int(2 * u[1])
                first = 1 + int(u[2] * (RIBS - 1 - count))
                ribs[i, side, first : first + count] = 0
            case "mangled_ribs":
                broken[i, :] = 0.28 + 0.15 * u[1], 0.42 + 0.16 * u[2], 0.12 + 0.13 * u[3]
            case "mangled_lung":
                bite[i] = outward * (0.38 + 0.12 * u[1]), -0.4 + 0.4 * u[2], 0.25 + 0.08 * u[3], 0.2
            case "wrong_laterality":
                mirror[i] = -1
    return a.replace(second_heart=second, ribs=ribs, rib_break=broken, bite=bite, mirror=mirror)


def _checkerboard(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A pattern that repeats every two pixels, as of transposed convolutions of stride 2."""
    tile = (-1.0) ** np.add.reduce(np.indices((2,) * image.ndim)) + 0.5 * (u[1] - 0.5)
    repeats = [-(-side // 2) for side in image.shape]
    pattern = np.tile(tile - tile.mean(), repeats)[tuple(slice(side) for side in image.shape)]
    return np.clip(image + (0.08 + 0.1 * u[0]) * pattern, -1, 1).astype(np.float32)


def _blur(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Gaussian, with a standard deviation of 1.2 to 2 pixels of 64."""
    return ndimage.gaussian_filter(image, (1.2 + 0.8 * u[0]) * image.shape[-1] / 64, mode="nearest")


def _blank(image: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Nothing but a trace of the image, around one grey."""
    level = np.float32(u[0] - 0.5)
    return level + np.float32(0.05) * (image - level)
