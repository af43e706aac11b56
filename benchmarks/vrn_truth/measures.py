"""Scores and verdicts beside the truth, and intervals over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from data.builders.phantom import faults
from evaluation import classification


def ranking(scores: np.ndarray, kind: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    """How well scores [N], higher = better, tell sound images from faulty ones.

    Args:
        scores: of a filter.
        kind: int [N], of `faults.KINDS`, or `faults.NONE`.
        kept: bool [N], what the filter keeps.

    Returns:
        'auc', sound against faulty; 'precision', the share of sound images among the kept ones;
        'recall', the share of the sound images that is kept; 'fault_rate', 1 - precision; and by
        kind of fault 'auc_by_kind', sound images against those, and 'kept_by_kind', their share
        that is kept.
    """
    sound = kind == faults.NONE
    by_kind = {faults.KINDS[number]: sound | (kind == number) for number in np.unique(kind[~sound])}
    precision = float(sound[kept].mean()) if kept.any() else 1.0  # nothing wrong was kept
    return {
        "auc": classification.auc(scores, sound),
        "precision": precision,
        "recall": float(kept[sound].mean()),
        "fault_rate": 1 - precision,
        "auc_by_kind": {
            name: classification.auc(scores[rows], sound[rows]) for name, rows in by_kind.items()
        },
        "kept_by_kind": {name: float(kept[rows & ~sound].mean()) for name, rows in by_kind.items()},
    }


def verdicts(scores: np.ndarray, kind: np.ndarray) -> dict[str, Any]:
    """The same of an annotator, which calls scores [N] >= 0.5 real-like.

    'missed' is besides the share of the faulty images that it calls real-like.
    """
    kept = scores >= 0.5
    return ranking(scores, kind, kept) | {"missed": float(kept[kind != faults.NONE].mean())}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of one value per seed, and the ends of its 95 % interval by Student's t."""
    values = np.asarray(values, np.float64)
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    reach = stats.t.ppf(0.975, len(values) - 1) * error
    return float(mean), float(mean - reach), float(mean + reach)


def text(values: Sequence[float], scale: float = 1, digits: int = 2, sign: str = "") -> str:
    """Mean and interval as 'm (l to h)', for tables."""
    m, low, high = (round(scale * x, digits) + 0.0 for x in interval(values))
    return f"{m:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def collect(cells: Sequence[Mapping[str, Any]], *path: str) -> list[float]:
    """The value at `path` of every cell: one per seed."""
    values = []
    for cell in cells:
        value: Any = cell
        for name in path:
            value = value[name]
        values.append(value)
    return values


def auc_between(higher: np.ndarray, lower: np.ndarray) -> float:
    """How often one of `higher` [N] has a greater score than one of `lower` [M]."""
    truth = np.repeat([1, 0], [len(higher), len(lower)])
    return classification.auc(np.concatenate([higher, lower]), truth)
