"""Extraction: what becomes of an annotated first pool (steps 2 to 4 of the patent).

Real-like images become candidates of the target dataset, non-real-like ones the VRN's negatives.
Part of the pool, of both kinds, is kept from the VRN: one half to calibrate it and one to measure
it within synthetic images. Its accuracy against real images would say nothing, as any trace of the
generator separates those perfectly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from data.errors import UserError

PARTS = ("train", "calibration", "measurement")


@dataclasses.dataclass(frozen=True)
class Extraction:
    """Rows of the annotated pool, each an increasing int array.

    Attributes:
      accepted: real-like rows, candidates of the target dataset.
      negatives: non-real-like rows of the train part, what the VRN learns to reject.
      positives: real-like rows of the train part, for `vrn.positives = real+accepted`.
      calibration: rows (both kinds) that calibrate the VRN.
      measurement: rows (both kinds) that measure it.
    """

    accepted: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray
    calibration: np.ndarray
    measurement: np.ndarray


class NotEnoughNegatives(UserError):  # noqa: N818 - a verdict on the pool that launch acts on
    """The pool cannot train and judge a VRN yet; more images must be made and annotated.

    Attributes:
      counts: 'negatives' and 'needed' in the train part, 'per_class' and 'needed_per_class', and
        'held_out': the fewest images of either kind in the calibration and measurement parts.
    """

    def __init__(self, message: str, counts: Mapping[str, Any]):
        super().__init__(message)
        self.counts = dict(counts)

    def __reduce__(self):  # other processes are told of it
        return type(self), (str(self), self.counts)


def split(groups: np.ndarray, shares: tuple[float, ...], seed: int) -> np.ndarray:
    """Part number [N] of each row: `shares` of every group at random, to the nearest image.

    Systematic sampling: the rows of a group, permuted, lie evenly on [0, 1) from a random start, so
    that small groups go to each part in proportion on average and large ones exactly.
    """
    rng = np.random.default_rng(seed)
    bounds = np.cumsum(shares)[:-1] / np.sum(shares)
    parts = np.empty(len(groups), int)
    for group in np.unique(groups):
        rows = rng.permutation(np.flatnonzero(groups == group))
        places = (np.arange(len(rows)) + rng.random()) / len(rows)
        parts[rows] = np.searchsorted(bounds, places, side="right")
    return parts


def extract(
    verdicts: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    min_negatives: int,
    min_negatives_per_class: int,
    min_held_out: int = 5,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Extraction:
    """Divides an annotated pool, or says that it holds too few of one kind.

    Args:
      verdicts: int [N]: 1 real-like, 0 non-real-like, -1 not annotated (left out).
      labels: int [N], class labels in [0, num_classes).
      num_classes: K.
      min_negatives: fewest negatives in the train part.
      min_negatives_per_class: fewest of each class among them.
      min_held_out: fewest images of either kind in the calibration and the measurement part.
      shares: of the train, calibration and measurement parts.
      seed: of the division.

    Raises:
      NotEnoughNegatives: the pool fails one of the minima.
    """
    annotated = np.flatnonzero(verdicts >= 0)
    real_like = verdicts[annotated] == 1
    parts = split(2 * labels[annotated] + real_like, shares, seed)
    rows = {
        (part, kind): annotated[(parts == number) & (real_like == kind)]
        for number, part in enumerate(PARTS)
        for kind in (False, True)
    }
    negatives = rows["train", False]
    per_class = np.bincount(labels[negatives], minlength=num_classes)
    held_out = {
        name: min(len(rows[part, kind]) for part in PARTS[1:])
        for name, kind in (("real-like", True), ("non-real-like", False))
    }
    counts = {
        "negatives": len(negatives),
        "needed": min_negatives,
        "per_class": per_class.tolist(),
        "needed_per_class": min_negatives_per_class,
        "held_out": held_out,
        "needed_held_out": min_held_out,
    }
    fewest = min(held_out, key=held_out.get)
    if len(negatives) < min_negatives or per_class.min() < min_negatives_per_class:
        raise NotEnoughNegatives(
            f"The first pool gives {len(negatives)} non-real-like images to train the VRN "
            f"({int(per_class.min())} in class {int(per_class.argmin())}) and {min_negatives} "
            f"({min_negatives_per_class} per class) are needed; generate and annotate more.",
            counts,
        )
    if held_out[fewest] < min_held_out:
        raise NotEnoughNegatives(
            f"The first pool leaves {held_out[fewest]} {fewest} images to calibrate or measure the "
            f"VRN and {min_held_out} are needed; generate and annotate more.",
            counts,
        )
    return Extraction(
        accepted=annotated[real_like],
        negatives=negatives,
        positives=rows["train", True],
        calibration=np.sort(np.concatenate([rows["calibration", k] for k in (False, True)])),
        measurement=np.sort(np.concatenate([rows["measurement", k] for k in (False, True)])),
    )
