"""What a reader study reports: each rater, the raters together, and the raters beside machines.

Every number comes with how many images it is of, and shares and areas with a 95 % interval.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from evaluation import agreement, classification
from vrn.review import consensus
from vrn.review.study import Ratings

RESAMPLES = 300


def raters(ratings: Ratings) -> dict[str, dict[str, Any]]:
    """Of every rater: answers, Turing test, repeatability, time, faults."""
    return {
        name: {
            "answers": _answers(ratings.score[row]),
            "turing": turing(ratings.score[row], ratings.real),
            "repeatability": _repeatability(ratings.score[row], ratings.again[row]),
            "seconds": _seconds(ratings.all_seconds[row]),
            "faults": dict(sorted(ratings.faults[name].items(), key=lambda one: -one[1])),
        }
        for row, name in enumerate(ratings.raters)
    }


def together(ratings: Ratings) -> dict[str, Any]:
    """Agreement between raters, and the Turing test of their mean.

    Kappas are of votes (real-like or not; unsure is left out); alpha is ordinal over all labels
    with unsure in the middle, and takes images that only some have rated.
    """
    cast = consensus.votes(ratings.score)
    pairs = [
        {
            "raters": [ratings.raters[a], ratings.raters[b]],
            "kappa": agreement.with_interval(
                lambda two: agreement.cohen(*two),
                _complete(cast[[a, b]]),
                resamples=RESAMPLES,
            ),
        }
        for a in range(len(cast))
        for b in range(a + 1, len(cast))
    ]
    interval = functools.partial(agreement.with_interval, resamples=RESAMPLES)
    return {
        "cohen": pairs,
        "fleiss": interval(agreement.fleiss, _complete(cast)),
        "krippendorff": interval(agreement.krippendorff, ratings.score),
        "turing": turing(ratings.score, ratings.real),
    }


def turing(score: np.ndarray, real: np.ndarray) -> dict[str, Any]:
    """How well real images are told from synthetic ones by scores [N], or [R, N] of several raters.

    Returns:
      Of decided answers 'real_called_real', 'synthetic_called_real' (how often the generator
      fools), 'accuracy', and 'balanced_accuracy', which is 0.5 by chance whatever the mix; and the
      'auc' of the scores, an unsure answer counting half. Several raters are averaged, and
      intervals are over images: these raters, other images. Shares of one rater have Wilson's
      intervals, which are honest about 26 of 26, and their balanced accuracy has those combined.
    """
    scores = np.atleast_2d(score)
    seen = ~np.isnan(scores).all(axis=0)
    table = np.concatenate([scores, real[None].astype(float)])[:, seen]
    measures = {
        "accuracy": lambda votes, truth: _mean(votes == truth),
        "balanced_accuracy": _balanced,
        "real_called_real": lambda votes, truth: _mean(votes[truth == 1]),
        "synthetic_called_real": lambda votes, truth: _mean(votes[truth == 0]),
    }

    def average(columns: np.ndarray, measure: Measure) -> float | None:
        votes, truth = consensus.votes(columns[:-1]), columns[-1]
        found = [measure(row[~np.isnan(row)], truth[~np.isnan(row)]) for row in votes]
        return _mean([value for value in found if value is not None])

    def auc(columns: np.ndarray) -> float | None:
        found = [_auc(row, columns[-1]) for row in columns[:-1]]
        return _mean([value for value in found if value is not None])

    interval = functools.partial(agreement.with_interval, ratings=table, resamples=RESAMPLES)
    shares = {
        name: interval(functools.partial(average, measure=measure))
        for name, measure in measures.items()
    }
    if len(scores) == 1:
        shares |= _of_one(consensus.votes(table[0]), table[1])
    counts = {"real": int(table[-1].sum()), "synthetic": int((table[-1] == 0).sum())}
    return {**shares, "auc": interval(auc), **counts}


Measure = Callable[[np.ndarray, np.ndarray], float | None]  # of votes and truth


def _of_one(votes: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, Any]]:
    """Shares of one rater with intervals; votes [N] may be NaN."""
    votes, truth = votes[~np.isnan(votes)], truth[~np.isnan(votes)]
    real, synthetic = votes[truth == 1], votes[truth == 0]
    found = {
        "accuracy": agreement.wilson(int(np.sum(votes == truth)), len(votes)),
        "real_called_real": agreement.wilson(int(real.sum()), len(real)),
        "synthetic_called_real": agreement.wilson(int(synthetic.sum()), len(synthetic)),
    }
    right = agreement.wilson(int(np.sum(synthetic == 0)), len(synthetic))
    halves = (found["real_called_real"], right)
    return found | {"balanced_accuracy": agreement.mean_of_shares(*halves)}


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _balanced(votes: np.ndarray, truth: np.ndarray) -> float | None:
    halves = [_mean(votes[truth == kind] == kind) for kind in (0, 1)]
    return None if None in halves else float(np.mean(halves))


def beside(verdicts: np.ndarray, votes: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """A machine beside the raters.

    Args:
      verdicts: int [N] of the raters: 1 real-like, 0 not, -1 none.
      votes: int [N] of the machine, likewise.
      scores: float [N] of the machine, higher = more real-like; NaN where it has none.

    Returns:
      'kappa' of the votes and 'auc' of the scores for the raters' verdicts.
    """
    both = (verdicts >= 0) & (votes >= 0) & ~np.isnan(scores)
    columns = np.stack([verdicts[both], votes[both], scores[both]]).astype(float)
    return {
        "kappa": agreement.with_interval(
            lambda c: agreement.cohen(c[0], c[1]), columns, resamples=RESAMPLES
        ),
        "auc": agreement.with_interval(lambda c: _auc(c[2], c[0]), columns, resamples=RESAMPLES),
    }


def _auc(score: np.ndarray, truth: np.ndarray) -> float | None:
    ok = ~np.isnan(score)
    if len(np.unique(truth[ok])) < 2:
        return None
    return classification.auc(score[ok], truth[ok])


def _answers(score: np.ndarray) -> dict[str, int]:
    seen = score[~np.isnan(score)]
    return {
        "images": len(seen),
        "real_like": int((seen > 0.5).sum()),
        "unsure": int((seen == 0.5).sum()),
        "non_real_like": int((seen < 0.5).sum()),
    }


def _repeatability(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    both = ~np.isnan(first) & ~np.isnan(second)
    same = agreement.wilson(int(np.sum(first[both] == second[both])), int(both.sum()))
    return {"same": same, "kappa": agreement.cohen(first[both], second[both])}


def _seconds(spent: np.ndarray) -> dict[str, float | None]:
    if len(spent) == 0:
        return {"median": None, "quartiles": [None, None], "total": 0.0}
    quartiles = np.percentile(spent, [25, 75]).tolist()
    return {
        "median": float(np.median(spent)),
        "quartiles": quartiles,
        "total": float(spent.sum()),
    }


def _complete(cast: np.ndarray) -> np.ndarray:
    """Columns without NaN."""
    return cast[:, ~np.isnan(cast).any(axis=0)]
