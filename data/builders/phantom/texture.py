"""Noise of several sizes of grain, drawn for every image alone."""

import numpy as np

from data.builders.phantom.anatomy import NOISE, Anatomy, stream

_OCTAVES = 4


def draw(a: Anatomy, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Fine grain and cloudy noise, each float32 [B, *shape] with standard deviation about 1.

    They depend on seed, patient, visit and shape only: an image and its healthy twin share them.
    """
    generators = [stream(a.seed, NOISE, p, v) for p, v in zip(a.patient, a.visit, strict=True)]
    fine = _white(generators, shape)
    cloudy = np.zeros_like(fine)
    for octave in range(1, _OCTAVES):
        coarse = _white(generators, tuple(-(-side // 2**octave) + 1 for side in shape))
        for axis, side in enumerate(shape, start=1):
            coarse = _stretch(coarse, axis, side, 2**octave)
        cloudy += coarse
    return fine, cloudy / np.float32(0.7 * np.sqrt(_OCTAVES - 1))


def _white(generators: list[np.random.Generator], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([random.standard_normal(shape, np.float32) for random in generators])


def _stretch(x: np.ndarray, axis: int, side: int, factor: int) -> np.ndarray:
    """Linear interpolation along an axis to `side` points, `factor` to a step."""
    at = np.arange(side) / factor
    low = at.astype(np.intp)
    weight = (at - low).astype(np.float32).reshape(-1, *(1,) * (x.ndim - 1 - axis))
    return np.take(x, low, axis) * (1 - weight) + np.take(x, low + 1, axis) * weight
