"""Detection among images that are alike in what might stand in for disease.

Slices with a tumour lie in the middle of the brain, so whoever knows how high a slice lies knows
much without looking for a tumour. Compared within slices of one height, that helps nobody.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation import statistics

BINS = 10  # of heights


def heights(slices: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Where a slice lies between the first, 0, and the last, 1, of its patient's: float64 [N].

    Args:
      slices: [N], numbers of slices.
      patients: [N].

    Returns:
      [N]; 0.5 for the only slice of a patient.
    """
    slices = np.asarray(slices, np.float64)
    member = np.unique(patients, return_inverse=True)[1]
    low, high = np.full(member.max() + 1, np.inf), np.full(member.max() + 1, -np.inf)
    np.minimum.at(low, member, slices)
    np.maximum.at(high, member, slices)
    span = (high - low)[member]
    return np.where(span > 0, (slices - low[member]) / np.where(span > 0, span, 1), 0.5)


def binned(height: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Which of so many bins of equal width in [0, 1] each height lies in: int [N]."""
    return np.minimum((np.asarray(height) * bins).astype(int), bins - 1)


def prevalence(bins: np.ndarray, diseased: np.ndarray, count: int = BINS) -> np.ndarray:
    """The share of diseased images in each bin [count], 0 in one without any."""
    ill, total = (np.bincount(bins, weights, count) for weights in (diseased, None))
    return ill / np.maximum(total, 1)


def auc(
    scores: np.ndarray,
    diseased: np.ndarray,
    strata: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Area under the ROC curve within strata, with a 95 % interval.

    The share of pairs, of a diseased and a healthy image of one stratum, that the score puts in
    order, ties counted half: the mean of the strata's areas, weighted by their numbers of pairs.

    Args:
      scores: [N], higher for what is thought diseased.
      diseased: bool [N].
      strata: int [N]; of one alone it is the plain area.
      groups: [N], e.g. patients, whose images the bootstrap draws together; None: each on its own.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      'mean' and 'ci95', as `evaluation.statistics` gives them, and 'pairs', their number.
    """
    scores, diseased, strata = (np.asarray(a) for a in (scores, diseased, strata))
    drawn = statistics.draws(groups, len(scores), resamples, np.random.default_rng(seed))
    weights = np.concatenate([np.ones((1, len(scores))), drawn])
    ordered, pairs = np.zeros((2, len(weights)))
    for stratum in np.unique(strata):
        here = np.flatnonzero(strata == stratum)
        values = np.unique(scores[here], return_inverse=True)[1]
        ill, well = np.zeros((2, len(weights), values.max() + 1))
        for total, which in ((ill, diseased[here]), (well, ~diseased[here])):
            np.add.at(total, (slice(None), values[which]), weights[:, here[which]])
        below = np.cumsum(well, 1) - well / 2
        ordered += (ill * below).sum(1)
        pairs += ill.sum(1) * well.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = ordered / pairs
    return {**statistics.interval(areas[0], areas[1:]), "pairs": int(pairs[0])}
