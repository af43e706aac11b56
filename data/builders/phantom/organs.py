"""The organs and lesions of a phantom, each as a map of its own in a view.

All return float32 [B, H, W] or [B, D, H, W], at least 0, and take an anatomy and its view.
"""

import numpy as np

from data.builders.phantom.anatomy import RIBS, Anatomy
from data.builders.phantom.view import View

RIB_SPAN = 1.16  # from the first to the last rib at the back
HEART = 1.75  # density of a heart
_WIDEST = 0.30  # y at which the thorax is widest
_THORAX_DEPTH = 0.62
_LUNG_DEPTH = 0.5
_HEART_DEPTH = 0.3
_FRONT = -0.1  # middle of the heart


def thorax(a: Anatomy, view: View) -> np.ndarray:
    """Half width of the rib cage at every y."""
    top, widest = view.of(a.thorax_top), np.float32(_WIDEST)
    up = np.clip((widest - view.y) / (widest - top), 0, 1)
    down = np.maximum(view.y - widest, 0)
    slim = 1 - 0.05 * view.of(a.sex)
    return view.of(a.thorax_width) * slim * ((1 - up**2.4) ** 0.5 - 0.12 * down**2)


def body(a: Anatomy, view: View) -> np.ndarray:
    """Neck, shoulders and trunk."""
    across = np.abs(view.x)
    slim = 1 - 0.05 * view.of(a.sex)
    trunk = view.of(a.thorax_width) * slim + view.of(a.flesh)
    # Above the armpits the trunk goes over into the shoulders.
    armpit = np.clip((-0.05 - view.y) / 0.5, 0, 1)
    width = trunk + 0.5 * armpit**2
    shoulder = -0.98 + 0.42 * np.clip((across - 0.2) / 0.75, 0, 1) ** 1.3
    roof = np.clip((view.y - shoulder) / 0.16, 0, 1)
    neck = np.clip((0.27 - across) / 0.06, 0, 1)
    return view.fill(((across / width) ** 2) ** 2, 0.85) * np.maximum(roof, neck)


def lung(a: Anatomy, view: View, side: int) -> np.ndarray:
    """One lung, the right (side -1) or the left (1), before a fault tears a part of it away."""
    outward = side * view.x
    inner = view.of(a.lung_gap)
    outer = 0.95 * thorax(a, view)
    half = (outer - inner) / 2  # negative above the lung
    q = ((outward - inner - half) / np.maximum(half, 1e-3)) ** 2
    above = np.clip((diaphragm(a, view, side) - view.y) / 0.05, 0, 1) * (half > 1e-3)
    return view.fill(q * np.sqrt(q), _LUNG_DEPTH) * above


def diaphragm(a: Anatomy, view: View, side: int) -> np.ndarray:
    """The dome of the diaphragm below a lung, as y at every x."""
    outward = side * view.x
    dome = view.of(a.dome_left if side > 0 else a.dome_right)
    base = view.of(a.lung_base - a.breath)
    arch = np.clip(1 - ((outward - 0.32) / (0.95 * view.of(a.thorax_width) - 0.32)) ** 2, -1, 1)
    return base - dome * (arch - 0.35)


def bite(a: Anatomy, view: View) -> np.ndarray:
    """Share of the lung that a fault tore away, 0 to 1, with a ragged edge."""
    x, y, radius, ragged = (view.of(part) for part in a.bite.T)
    dx, dy = view.x - x, view.y - y
    angle = np.arctan2(dy, dx)
    edge = radius * (1 + ragged * np.sin(5 * angle + 9 * x) * 0.5 + ragged * np.sin(3 * angle))
    return np.clip((edge - np.hypot(dx, dy)) / 0.06, 0, 1) * (radius > 0)


def heart(a: Anatomy, view: View, growth: np.ndarray | float = 1.0) -> np.ndarray:
    """The heart, `growth` [B] times as large."""
    growth = np.broadcast_to(np.asarray(growth, np.float32), len(a))
    # It grows away from the midline and upwards: the diaphragm bears it.
    return view.ellipsoid(
        (view.of(a.heart_x + 0.09 * (growth - 1)), view.of(a.heart_y - 0.05 * (growth - 1))),
        (
            view.of(a.heart_length * growth),
            view.of(a.heart_breadth * growth),
            view.of(_HEART_DEPTH * growth),
        ),
        view.of(a.heart_angle),
        _FRONT,
    )


def second_heart(a: Anatomy, view: View) -> np.ndarray:
    """The heart that a fault adds."""
    x, y, size = a.second_heart.T
    growth = np.maximum(size, 1e-3)
    tilted = np.where(x < 0, np.pi - a.heart_angle, a.heart_angle)
    solid = view.ellipsoid(
        (view.of(x), view.of(y)),
        (
            view.of(a.heart_length * growth),
            view.of(a.heart_breadth * growth),
            view.of(_HEART_DEPTH * growth),
        ),
        view.of(tilted),
        _FRONT,
    )
    return solid * (view.of(size) > 0)


def mediastinum(a: Anatomy, view: View) -> np.ndarray:
    """Great vessels above the heart, with the knob of the aorta on the left that grows with age."""
    knob = view.of(0.05 + 0.08 * (a.age - 20) / 70)
    trunk = view.ellipsoid((0.02, -0.25), (0.13, 0.55, 0.2))
    return np.maximum(trunk, view.ellipsoid((0.12, -0.33), (knob, knob * 1.1, 0.15)))


def spine(a: Anatomy, view: View) -> np.ndarray:
    """Vertebrae with gaps between them."""
    column = view.fill(((view.x / 0.085) ** 2) ** 2, 0.12, 0.55)
    number = view.y / 0.155
    gap = np.abs(number - np.floor(number) - 0.5)
    return column * (0.75 + 0.25 * np.clip((gap - 0.08) / 0.1, 0, 1))


def ribs(a: Anatomy, view: View) -> np.ndarray:
    """Ribs on the wall of the thorax: each falls from the spine, at the back, to the front."""
    wall = thorax(a, view)
    across = np.clip(np.abs(view.x) / np.maximum(wall, 1e-3), 0, 1)
    if view.z is not None:
        radius = np.sqrt(across**2 + (view.z / _THORAX_DEPTH) ** 2)
        shell = np.clip((0.07 - np.abs(radius - 0.97)) * 30, 0, 1)
        shell = shell * (np.abs(view.x) < wall * 1.04)
        return shell * _bands(a, view, across, view.z / _THORAX_DEPTH / np.maximum(radius, 1e-3))
    back = np.sqrt(1 - across**2)
    # The path through a thin wall is long where the view grazes it.
    wall_path = np.minimum(1 / np.maximum(back, 0.05), 2.2) * np.clip((1 - across) * 20, 0, 1)
    behind = _bands(a, view, across, back)
    # In front, ribs end in cartilage before they reach the breastbone.
    ahead = _bands(a, view, across, -back) * np.clip((across - 0.45) * 6, 0, 1)
    return 0.5 * wall_path * (behind + 0.3 * ahead)


def _bands(a: Anatomy, view: View, across: np.ndarray, back: np.ndarray) -> np.ndarray:
    """1 in the middle of a rib and 0 between ribs; `back` is 1 at the back and -1 at the front."""
    left = view.x > 0
    fall = view.of(a.rib_drop) * (1 - back) * (0.4 + 0.6 * across)
    at, jump, wave = (
        np.where(left, view.of(a.rib_break[:, 1, i]), view.of(a.rib_break[:, 0, i]))
        for i in range(3)
    )
    number = (view.y - view.of(a.rib_top) - fall) * ((RIBS - 1) / RIB_SPAN) + 0.5
    number = number + jump * (np.abs(view.x) > at) + wave * np.sin(17 * view.x + 5 * view.y)
    index = np.floor(number)
    band = np.maximum(1 - ((number - index - 0.5) / view.of(a.rib_width)) ** 2, 0)
    place = np.clip(index, 0, RIBS - 1).astype(np.intp) + RIBS * left
    batch = np.arange(len(a))[(slice(None), *(np.newaxis,) * (place.ndim - 1))]
    present = a.ribs.reshape(len(a), -1)[batch, place]
    return band * present * ((index >= 0) & (index < RIBS))


def clavicles(a: Anatomy, view: View) -> np.ndarray:
    """Both collar bones."""
    across = np.abs(view.x)
    y = view.of(a.thorax_top) + 0.13 - 0.12 * across + 0.05 * np.sin(4.5 * across)
    q = ((view.y - y) / 0.035) ** 2 + np.clip((np.abs(across - 0.42) - 0.32) / 0.06, 0, 9) ** 2
    return view.fill(q, 0.1, -0.5)


def breasts(a: Anatomy, view: View) -> np.ndarray:
    """Soft shadows over the lower lungs, in phantoms of sex 1."""
    q = ((np.abs(view.x) - 0.46) / 0.34) ** 2 + ((view.y - 0.24) / 0.28) ** 2
    return view.fill(q, 0.3, -0.75) * view.of(a.sex)


def vessels(a: Anatomy, view: View) -> np.ndarray:
    """Vessels that fan out from each hilum and grow thinner."""
    across = np.abs(view.x) - 0.16
    down = view.y + 0.02
    distance = np.hypot(across, down)
    angle = np.arctan2(down, np.maximum(across, 1e-3))
    turn = 2 * np.pi * view.of(a.vessel_turn) + 1.3 * (view.x > 0)
    branch = np.cos(7 * angle + turn + 1.4 * np.sin(5 * distance + turn))
    twig = np.cos(17 * angle - 2 * turn + 1.1 * np.sin(9 * distance))
    fan = np.maximum(branch - 0.55, 0) * 2 + np.maximum(twig - 0.7, 0) * 1.2
    hilum = np.maximum(1 - (distance / 0.17) ** 2, 0)
    fan = fan * np.maximum(1 - distance / 0.7, 0) * (distance > 0.06)
    return (fan + 0.8 * hilum) * (across > -0.12)
