"""Nearest neighbours by brute force, in bounded memory."""

from __future__ import annotations

import numpy as np

BLOCK_ELEMENTS = 1 << 24  # float64 numbers in a block of distances: 128 MB


def nearest(
    x: np.ndarray,
    reference: np.ndarray,
    k: int = 1,
    *,
    block: int | None = None,
    exclude_self: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows of `reference` to every row of `x`, by Euclidean distance.

    Candidates come from |x|^2 - 2 x.r + |r|^2 (one matrix product per block); the distances
    themselves are computed afresh from the differences, so that an exact copy is at exactly 0.

    Args:
      x: [N, ...], flattened to [N, F]; converted block by block, so it may lie on disk.
      reference: [M, ...], flattened to [M, F].
      k: neighbours per row.
      block: rows of `x` at a time; memory is about 8 * block * (M + k * F) bytes, by default some
        hundred megabytes at most.
      exclude_self: `x` is `reference`, and no row is its own neighbour (a twin elsewhere is).

    Returns:
      Distances float64 [N, k], ascending, and indices into `reference` int64 [N, k].

    Raises:
      ValueError: `reference` has fewer than k rows to offer.
    """
    reference = np.asarray(reference, np.float64).reshape(len(reference), -1)
    if block is None:
        block = max(1, min(1024, BLOCK_ELEMENTS // (len(reference) + k * reference.shape[1])))
    if not 0 < k <= len(reference) - exclude_self:
        raise ValueError(f"Cannot take {k} neighbours among {len(reference)} reference rows.")
    # Distances do not change with the origin; near it the expansion loses the fewest digits.
    centre = reference.mean(0)
    reference = reference - centre
    squares = np.einsum("mf,mf->m", reference, reference)
    distances, indices = np.empty((len(x), k)), np.empty((len(x), k), np.int64)
    for start in range(0, len(x), block):
        rows = slice(start, min(start + block, len(x)))
        part = np.asarray(x[rows], np.float64).reshape(rows.stop - start, -1) - centre
        # |x|^2 is the same for a whole row and does not change its order.
        order = squares - 2 * part @ reference.T
        if exclude_self:
            here = np.arange(len(part))
            order[here, start + here] = np.inf
        chosen = np.argpartition(order, k - 1, axis=1)[:, :k]
        exact = np.linalg.norm(part[:, None, :] - reference[chosen], axis=2)
        rank = np.argsort(exact, axis=1, kind="stable")
        distances[rows] = np.take_along_axis(exact, rank, axis=1)
        indices[rows] = np.take_along_axis(chosen, rank, axis=1)
    return distances, indices


def pairwise(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """All Euclidean distances float64 [N, M] between rows of x [N, F] and reference [M, F]."""
    x, reference = np.asarray(x, np.float64), np.asarray(reference, np.float64)
    centre = reference.mean(0)
    x, reference = x - centre, reference - centre
    squares = (x**2).sum(1)[:, None] - 2 * x @ reference.T + (reference**2).sum(1)[None, :]
    return np.sqrt(np.maximum(squares, 0))
