"""Whether an image has a fault: its measures beside those of phantoms that have none."""

import functools

import numpy as np

from data.builders.phantom.anatomy import RIBS, draw
from data.builders.phantom.measure import measure
from data.builders.phantom.render import render

_REFERENCES = 1000  # fault-free phantoms, of a population of their own
_SEED = 2**31
_TAIL = 0.002  # share of them outside each bound
_LOW = ("rib_order", "lung_right", "lung_left", "detail", "contrast")
_HIGH = ("checkerboard", "detail")
_FEWEST_RIBS = RIBS - 2  # the first and the last are often hidden


@functools.cache
def bounds(shape: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """Between which values each measure without a known truth lies, for images (H, W)."""
    found = []
    for start in range(0, _REFERENCES, 100):
        who = np.arange(start, start + 100)
        found.append(measure(render(draw(_SEED, who, np.zeros_like(who)), shape).image))
    values = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    return {
        name: (
            float(np.quantile(values[name], _TAIL)) if name in _LOW else -np.inf,
            float(np.quantile(values[name], 1 - _TAIL)) if name in _HIGH else np.inf,
        )
        for name in sorted({*_LOW, *_HIGH})
    }


def judge(images: np.ndarray) -> dict[str, np.ndarray]:
    """What is wrong with images, float [B, H, W, 1] in [-1, 1]: for each finding, bool [B].

    Findings are named after measures; `any` is whether there is one. Their mean over a pool is its
    fault rate, from which the false alarms that phantoms without a fault give are not taken away.
    """
    found = measure(images)
    wrong = {
        "hearts": found["hearts"] != 1,
        "laterality": found["laterality"] < 0,
        "ribs_right": found["ribs_right"] < _FEWEST_RIBS,
        "ribs_left": found["ribs_left"] < _FEWEST_RIBS,
    }
    for name, (low, high) in bounds(images.shape[1:3]).items():
        wrong[name] = (found[name] < low) | (found[name] > high)
    return wrong | {"any": np.any(list(wrong.values()), axis=0)}
