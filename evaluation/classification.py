"""Metrics of a classifier, plain or with many sets of image weights at once.

A bootstrap resample of the test images is a vector of counts, one per image. Given all of them as
weights [R, N], every metric of every resample comes from a few array operations.
"""

from __future__ import annotations

import numpy as np


def metrics(probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of probs [N, K] for labels int [N]; see `metrics_weighted`.

    The recall of a class that has no image is left out.
    """
    weighted = metrics_weighted(probs, labels, np.ones((1, len(labels))))
    return {name: float(value[0]) for name, value in weighted.items() if np.isfinite(value[0])}


def metrics_weighted(
    probs: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """All metrics for R sets of image weights.

    Args:
      probs: [N, K], class probabilities (or any scores whose order and maximum mean the same).
      labels: int [N] in [0, K).
      weights: [R, N], >= 0.

    Returns:
      Name -> float64 [R]: 'accuracy'; 'recall/<k>' of each class; 'balanced_accuracy', their mean;
      'auc', the mean over classes of class against rest. A class without weight in a set has NaN
      recall there and is left out of that set's means.
    """
    probs, labels = np.asarray(probs), np.asarray(labels)
    by_image = np.ascontiguousarray(np.asarray(weights, np.float64).T)
    num_classes = probs.shape[1]
    if probs.shape[0] != len(labels) or by_image.shape[0] != len(labels):
        raise ValueError(
            f"probs {probs.shape}, labels {labels.shape} and weights {by_image.shape[::-1]} do not "
            "describe the same images."
        )
    if not np.isin(labels, np.arange(num_classes)).all():
        raise ValueError(f"Labels must lie in [0, {num_classes}).")
    if not np.isfinite(probs).all():
        raise ValueError("Probabilities must be finite.")
    correct = (probs.argmax(1) == labels).astype(np.float64)
    truth = (labels[:, None] == np.arange(num_classes)).astype(np.float64)  # [N, K]
    hits, totals = (truth * correct[:, None]).T @ by_image, truth.T @ by_image  # [K, R]
    with np.errstate(invalid="ignore"):
        recalls = np.where(totals > 0, hits / totals, np.nan)
    aucs = np.stack([_auc(probs[:, k], labels == k, by_image) for k in range(num_classes)])
    return {
        "accuracy": hits.sum(0) / by_image.sum(0),
        "balanced_accuracy": _mean_of_present(recalls),
        "auc": _mean_of_present(aucs),
        **{f"recall/{k}": recalls[k] for k in range(num_classes)},
    }


def auc(score: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve of score [N] for truth [N] (1 or True = positive)."""
    return float(auc_weighted(score, truth, np.ones((1, len(truth))))[0])


def auc_weighted(score: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Areas under the ROC curve float64 [R] for weights [R, N]; NaN where a kind has no weight."""
    by_image = np.ascontiguousarray(np.asarray(weights, np.float64).T)
    return _auc(np.asarray(score), np.asarray(truth) == 1, by_image)


def _auc(score: np.ndarray, positive: np.ndarray, by_image: np.ndarray) -> np.ndarray:
    """Weighted Mann-Whitney statistic [R]: P(positive > negative) + P(equal) / 2.

    One sort serves all resamples: each positive is worth the negative weight below it, plus half of
    that at equal scores.
    """
    negatives = np.flatnonzero(~positive)[np.argsort(score[~positive], kind="stable")]
    below = np.zeros((len(negatives) + 1, by_image.shape[1]))
    np.cumsum(by_image[negatives], axis=0, out=below[1:])
    left = np.searchsorted(score[negatives], score[positive], side="left")
    right = np.searchsorted(score[negatives], score[positive], side="right")
    weights = by_image[positive]
    wins = np.einsum("pr,pr->r", weights, (below[left] + below[right]) / 2)
    pairs = weights.sum(0) * below[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, wins / pairs, np.nan)


def _mean_of_present(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of [K, R] without NaN entries; NaN if there is nothing else."""
    present = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(present, values, 0).sum(0) / present.sum(0)
