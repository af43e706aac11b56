"""Smooth fields over an image or a volume: a small array of coefficients times a basis per axis."""

import functools
from collections.abc import Sequence

import numpy as np


def expand(coefficients: np.ndarray, bases: Sequence[np.ndarray]) -> np.ndarray:
    """Tensor product of two or three bases, for every row of its own.

    Args:
        coefficients: [B, K, p, p] or [B, K, p, p, p].
        bases: per axis [size, p].

    Returns:
        [B, K, H, W] or [B, K, D, H, W].
    """
    if len(bases) == 3:
        # As stacked products: one large product would round a row by what else the batch holds.
        depth, *bases = bases
        flat = coefficients.reshape(*coefficients.shape[:3], -1)
        coefficients = (depth @ flat).reshape(*flat.shape[:2], len(depth), *coefficients.shape[3:])
    rows, columns = bases
    return rows @ coefficients @ columns.T


@functools.lru_cache(maxsize=32)
def spline_basis(size: int, cells: int) -> np.ndarray:
    """Cubic B-spline weights float32 [size, cells + 3] of pixel centres; rows sum to 1."""
    position = (np.arange(size) + 0.5) / size * cells
    distance = np.abs(position[:, None] - (np.arange(cells + 3) - 1))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


@functools.lru_cache(maxsize=32)
def power_basis(size: int, degree: int) -> np.ndarray:
    """Powers 0 to ``degree`` of the position from -1 to 1, float32 [size, degree + 1]."""
    position = np.linspace(-1, 1, size, dtype=np.float32)
    return np.vander(position, degree + 1, increasing=True)
