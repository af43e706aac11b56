"""Is an image diseased? Scores from maps of change, and how well they tell.

A map [*S] says how much every place of an image was changed when it was made healthy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from evaluation import statistics

SCORES = ("max", "mean", "top")
_TOP = 0.01  # share of the places that 'top' averages


def score(maps: np.ndarray, kind: str) -> np.ndarray:
    """One number for each map: float64 [N] of [N, *S].

    'max' is the largest value (US 11,164,021), 'mean' the mean over all places, and 'top' the mean
    of the largest hundredth of them.

    Raises:
      ValueError: another kind.
    """
    flat = np.asarray(maps, np.float64).reshape(len(maps), -1)
    if kind == "max":
        return flat.max(1)
    if kind == "mean":
        return flat.mean(1)
    if kind == "top":
        count = max(1, round(_TOP * flat.shape[1]))
        return np.partition(flat, -count, axis=1)[:, -count:].mean(1)
    raise ValueError(f"unknown score {kind!r}: give one of {SCORES}")


def auc(
    scores: np.ndarray,
    diseased: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Area under the ROC curve, with a 95 % interval.

    Args:
      scores: [N], higher for what is thought diseased.
      diseased: bool [N].
      groups: [N], e.g. patients, whose images the bootstrap draws together; None: each on its own.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      'mean' and 'ci95', as `evaluation.statistics` gives them.
    """
    outcome = np.stack([-np.asarray(scores), scores], 1), np.asarray(diseased, int)
    found = statistics.summarise(
        {"maps": [outcome]}, reference="maps", groups=groups, resamples=resamples, seed=seed
    )["arms"]["maps"]["auc"]
    return {"mean": found["mean"], "ci95": found["ci95"]}


def roc(scores: np.ndarray, diseased: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve: false positive rate and sensitivity, from no image called diseased to all."""
    false, true, _ = roc_curve(np.asarray(diseased, int), scores)
    return false, true


def choose(maps: np.ndarray, diseased: np.ndarray) -> str:
    """The kind of score with the largest AUC on these maps, which are not those it is tested on."""
    found = {kind: auc(score(maps, kind), diseased, resamples=1)["mean"] for kind in SCORES}
    return max(found, key=lambda kind: found[kind])


def off_target(maps: np.ndarray, masks: np.ndarray) -> dict[str, float | None]:
    """How much of the change lies outside the lesions.

    Args:
      maps: [N, *S] of diseased images.
      masks: bool, the same shape; an image without a lesion, or of nothing but one, is left out.

    Returns:
      'inside' and 'outside', the mean change in and out of the mask, and 'ratio', outside / inside;
      each a mean over images, of the ratio that of the two means. None where there is none: of no
      image with a lesion, and the ratio of a map that is 0 in all of them.
    """
    flat, masks = (np.asarray(a).reshape(len(maps), -1) for a in (maps, masks))
    some = masks.any(1) & ~masks.all(1)
    if not some.any():
        return dict.fromkeys(("inside", "outside", "ratio"))
    flat, masks = np.asarray(flat[some], np.float64), masks[some]
    inside = ((flat * masks).sum(1) / masks.sum(1)).mean()
    outside = ((flat * ~masks).sum(1) / (~masks).sum(1)).mean()
    return {"inside": inside, "outside": outside, "ratio": outside / inside if inside else None}
