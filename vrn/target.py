"""Arms: ways of composing the target dataset, and the one search that every arm gets.

All arms train the same network for the same number of optimiser steps on batches of the same size
and class balance. They differ in what fills the extra part of each batch, nothing else; share of
that part and strength of augmentation are chosen on validation from one grid, as otherwise the
comparison would be about tuning.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from data.errors import UserError
from data.loader import Part
from data.records import Records


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of composing the target dataset.

    Attributes:
      extra: what fills the extra part of a batch: None (no such part), 'real' (the real training
        images again), 'pool' (synthetic images) or 'imported' (synthetic images of the source).
      filter: which filter's kept rows of the second pool; None means all rows.
      augmented: whether classical augmentation is allowed, and its strength searched.
      plain: whether no augmentation (strength 0) is among the choices.
    """

    extra: str | None = None
    filter: str | None = None
    augmented: bool = True
    plain: bool = True


ARMS: Mapping[str, Arm] = {
    "real": Arm(augmented=False),
    "classical": Arm(plain=False),
    # Reals repeated to the same count: controls for the make-up of the batch.
    "duplicate": Arm(extra="real"),
    "imported": Arm(extra="imported"),
    "unfiltered": Arm(extra="pool"),
    "random": Arm(extra="pool", filter="random"),
    "discriminator": Arm(extra="pool", filter="discriminator"),
    "knn": Arm(extra="pool", filter="knn"),
    "confidence": Arm(extra="pool", filter="confidence"),
    "vrn": Arm(extra="pool", filter="vrn"),
}


@dataclasses.dataclass(frozen=True, order=True)
class Setting:
    """What the search chooses: smaller settings come first, and win ties.

    Attributes:
      share: of every batch that the extra part fills, in [0, 1].
      strength: of the classical augmentation, >= 0.
    """

    share: float
    strength: float


def arm(name: str) -> Arm:
    """The arm of that name, or a UserError that lists them."""
    if name not in ARMS:
        raise UserError(f"Unknown arm {name!r}; choose among {', '.join(ARMS)}.")
    return ARMS[name]


def settings(name: str, shares: Sequence[float], strengths: Sequence[float]) -> list[Setting]:
    """The grid shares x strengths, without those that come to the same for this arm; sorted."""
    for flag, values, highest in (("shares", shares, 1.0), ("strengths", strengths, np.inf)):
        if not values or not all(0 <= value <= highest for value in values):
            raise UserError(
                f"target.{flag} is {tuple(values)}; give numbers from 0"
                + (f" to {highest:g}." if np.isfinite(highest) else " up.")
            )
    this = arm(name)
    allowed = strengths if this.augmented else (0.0,)
    if not this.plain:
        allowed = [strength for strength in strengths if strength > 0]
        if not allowed:
            raise UserError(
                f"target.strengths is {tuple(strengths)}; arm '{name}' needs one above 0."
            )
    grid = itertools.product(shares if this.extra else (0.0,), allowed)
    return sorted({Setting(float(share), float(strength)) for share, strength in grid})


def parts(
    name: str,
    setting: Setting,
    batch_size: int,
    *,
    real: Records,
    pool: Records,
    kept: Mapping[str, np.ndarray],
    imported: Records | None = None,
) -> tuple[Part, ...]:
    """What every batch of an arm is made of, each part balanced over the classes.

    Args:
      name: the arm.
      setting: its share of extra images.
      batch_size: images per batch; the extra part takes the nearest whole number.
      real: real training images.
      pool: the second pool, N synthetic images.
      kept: filter name -> bool [N], the rows that filter keeps.
      imported: synthetic images of the source, where it has some.

    Raises:
      UserError: unknown arm, a filter without kept rows, or no imported images.
    """
    this = arm(name)
    if this.filter is not None and this.filter not in kept:
        raise UserError(
            f"Arm {name!r} needs the rows kept by filter {this.filter!r}; add it to filter.names."
        )
    count = round(setting.share * batch_size) if this.extra else 0
    chosen = []
    if count < batch_size:
        chosen.append(Part(real, batch_size - count))
    if count and this.extra == "real":
        chosen.append(Part(real, count))
    elif count and this.extra == "imported":
        if imported is None:
            raise UserError(
                f"Arm {name!r} needs labelled images marked as synthetic, of which the source has "
                "none; add some, or leave the arm out of target.arms."
            )
        chosen.append(Part(imported, count))
    elif count:
        rows = kept[this.filter] if this.filter is not None else np.ones(len(pool), bool)
        chosen.append(Part(pool.subset(np.flatnonzero(rows)), count))
    return tuple(chosen)


def choose(validation: Mapping[Setting, float | Sequence[float]]) -> Setting:
    """The setting of highest validation score (mean over seeds); ties go to the smaller one."""
    if not validation:
        raise ValueError("There are no validation scores to choose from.")
    return min(validation, key=lambda setting: (-float(np.mean(validation[setting])), setting))
