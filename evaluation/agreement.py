"""How far raters agree, with each other and with themselves, and how sure one can be of it.

Ratings are float [R, N]: R raters, N images, NaN where a rater has not seen an image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import krippendorff as krippendorff_lib
import numpy as np
from scipy import stats
from sklearn.metrics import cohen_kappa_score


def wilson(successes: int, total: int) -> dict[str, Any]:
    """A share with its 95 % interval (Wilson 1927), {'mean', 'ci95', 'count'}; None for 0 of 0."""
    if total == 0:
        return {"mean": None, "ci95": [None, None], "count": 0}
    ends = stats.binomtest(int(successes), int(total)).proportion_ci(method="wilson")
    return {
        "mean": successes / total,
        "ci95": [float(ends.low), float(ends.high)],
        "count": int(total),
    }


def mean_of_shares(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """The mean of two independent shares, with the interval that theirs give together.

    Square-and-add of Newcombe (1998, Stat. Med. 17, 873, method 10), for a mean.

    Args:
      a: as `wilson` gives it.
      b: likewise.
    """
    count = a["count"] + b["count"]
    if a["mean"] is None or b["mean"] is None:
        return {"mean": None, "ci95": [None, None], "count": count}
    mean = (a["mean"] + b["mean"]) / 2
    below, above = (
        np.hypot(a["mean"] - a["ci95"][end], b["mean"] - b["ci95"][end]) / 2 for end in (0, 1)
    )
    return {"mean": mean, "ci95": [float(mean - below), float(mean + above)], "count": count}


def cohen(a: np.ndarray, b: np.ndarray) -> float | None:
    """Cohen's kappa (1960) of two raters, ratings [N] each without NaN; None where it is 0/0.

    It does not exist without ratings, and where both use one and the same word throughout.
    """
    if len(a) == 0 or len(np.union1d(a, b)) < 2:
        return None
    words = np.union1d(a, b)
    return float(cohen_kappa_score(np.searchsorted(words, a), np.searchsorted(words, b)))


def fleiss(ratings: np.ndarray) -> float | None:
    """Fleiss' kappa (1971, Psychol. Bull. 76, eq. 2 to 7) over images that all R raters have seen.

    Returns:
      None for fewer than two raters, no such image, or one word throughout.
    """
    complete = ratings[:, ~np.isnan(ratings).any(axis=0)]
    raters, images = complete.shape
    words = np.unique(complete)
    if raters < 2 or images == 0 or len(words) < 2:
        return None
    counts = np.stack([(complete == word).sum(axis=0) for word in words], axis=1)  # [N, K]
    observed = ((counts**2).sum(axis=1) - raters).mean() / (raters * (raters - 1))
    by_chance = ((counts.sum(axis=0) / (raters * images)) ** 2).sum()
    return float((observed - by_chance) / (1 - by_chance))


def krippendorff(ratings: np.ndarray, level: str = "ordinal") -> float | None:
    """Krippendorff's alpha over whatever was rated at least twice; None where it does not exist.

    Args:
      ratings: [R, N].
      level: of measurement: nominal, ordinal or interval.
    """
    pairable = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    if pairable.size == 0 or len(np.unique(pairable[~np.isnan(pairable)])) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # 0/0 is what None tells
        found = float(krippendorff_lib.alpha(pairable, level_of_measurement=level))
    return found if np.isfinite(found) else None


def with_interval(
    statistic: Callable[[np.ndarray], float | None],
    ratings: np.ndarray,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """A statistic of ratings with its 95 % percentile interval over images drawn again.

    Args:
      statistic: of ratings [R, N] to a number or None.
      ratings: [R, N].
      resamples: of the bootstrap; those without a value are left out.
      seed: of the draws.

    Returns:
      {'mean', 'ci95': [low, high], 'count': images rated by anybody}.
    """
    seen = ratings[:, ~np.isnan(ratings).all(axis=0)]
    count = seen.shape[1]
    point = statistic(seen) if count else None
    if point is None:
        return {"mean": None, "ci95": [None, None], "count": count}
    rng = np.random.default_rng(seed)
    drawn = [statistic(seen[:, rng.integers(count, size=count)]) for _ in range(resamples)]
    kept = [value for value in drawn if value is not None]
    ends = np.percentile(kept, [2.5, 97.5]).tolist() if kept else [None, None]
    return {"mean": point, "ci95": ends, "count": count}
