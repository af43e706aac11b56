"""A reader study: its design, kept in a store, and what its raters have said so far."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.errors import UserError
from vrn.review import design
from vrn.review.store import SKIPPED, Store

LEAD = "lead"  # who sees the statistics; no rater
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a study is, once for all; more raters may join where all see every image.

    Attributes:
      name: of the study.
      raters: pseudonyms.
      labels: name of a set of `design.LABEL_SETS`.
      real_share: of the images, in [0, 1).
      repeats: share of the images shown twice, in [0, 1].
      raters_per_image: 0: all.
      images: synthetic ones, drawn from the pool; 0: all of it.
      seed: of draws, orders and assignment.
    """

    name: str = "main"
    raters: tuple[str, ...] = ("rater-1",)
    labels: str = "three"
    real_share: float = 0.1
    repeats: float = 0.05
    raters_per_image: int = 0
    images: int = 0
    seed: int = 0

    def validate(self) -> None:
        """Raises a UserError that names the first setting with an impossible value."""
        for field, names in (("name", (self.name,)), ("raters", self.raters)):
            for one in names:
                if not _NAME.fullmatch(one) or one == LEAD:
                    raise UserError(
                        f"--config.review.{field} has {one!r}; use up to 40 letters, digits, "
                        f"'-', '_' or '.', other than {LEAD!r}, and no person's name."
                    )
        if not self.raters or len(set(self.raters)) != len(self.raters):
            raise UserError(
                f"--config.review.raters={self.raters!r}: give one or more different pseudonyms."
            )
        if self.labels not in design.LABEL_SETS:
            raise UserError(
                f"--config.review.labels={self.labels!r}: choose from "
                f"{', '.join(design.LABEL_SETS)}."
            )
        if not 0 <= self.real_share < 1 or not 0 <= self.repeats <= 1:
            raise UserError(
                f"--config.review.real_share={self.real_share} and repeats={self.repeats}: give "
                "shares from 0 to 1, and leave room for synthetic images."
            )
        if self.raters_per_image < 0 or self.images < 0:
            raise UserError(
                "--config.review.raters_per_image and images count things; give 0 or more."
            )


@dataclasses.dataclass(frozen=True)
class Ratings:
    """What R raters said of N images of a study.

    Attributes:
      sample_id: str [N].
      real: bool [N], real images.
      raters: R names.
      score: float [R, N], of first showings; NaN where there is no label.
      again: float [R, N], of second showings.
      seconds: float [R, N], of first showings.
      time: float [R, N], when the first showings got their label.
      all_seconds: of every showing with a label, one array per rater.
      faults: rater to (fault to number of images).
    """

    sample_id: np.ndarray
    real: np.ndarray
    raters: tuple[str, ...]
    score: np.ndarray
    again: np.ndarray
    seconds: np.ndarray
    time: np.ndarray
    all_seconds: list[np.ndarray]
    faults: dict[str, dict[str, int]]


@dataclasses.dataclass(frozen=True)
class Study:
    """A study in a store."""

    store: Store
    settings: Settings

    @property
    def name(self) -> str:
        """Of the study."""
        return self.settings.name

    @property
    def labels(self) -> tuple[design.Label, ...]:
        """What raters may answer."""
        return design.LABEL_SETS[self.settings.labels]

    def ratings(self) -> Ratings:
        """All current labels."""
        score_of = {label.name: label.score for label in self.labels}
        raters = tuple(self.store.raters(self.name))
        tasks = {rater: self.store.tasks(self.name, rater) for rater in raters}
        images = {one.sample_id: one.real for of_rater in tasks.values() for one in of_rater}
        column = {sample_id: index for index, sample_id in enumerate(images)}
        shape = (len(raters), len(images))
        score, again, seconds, when = (np.full(shape, np.nan) for _ in range(4))
        spent: list[np.ndarray] = []
        faults: dict[str, dict[str, int]] = {}
        for row, rater in enumerate(raters):
            marks = self.store.current(self.name, rater)
            found = [mark for mark in marks.values() if mark.label != SKIPPED]
            spent.append(np.array([mark.seconds for mark in found]))
            counts = faults.setdefault(rater, {})
            for mark in found:
                task = tasks[rater][mark.place]
                place = row, column[task.sample_id]
                if task.repeat:
                    again[place] = score_of[mark.label]
                    continue
                score[place] = score_of[mark.label]
                seconds[place], when[place] = mark.seconds, mark.time
                for fault in mark.faults:
                    counts[fault] = counts.get(fault, 0) + 1
        return Ratings(
            np.array(list(images), np.str_), np.array(list(images.values()), bool), raters,
            score, again, seconds, when, spent, faults,
        )  # fmt: skip


def find_study(store: Store, name: str) -> Study | None:
    """The study of that name as it was begun, or None."""
    found = store.settings(name)
    if found is None:
        return None
    names = {field.name for field in dataclasses.fields(Settings)}
    kept = {key: value for key, value in found.items() if key in names}
    return Study(store, Settings(**kept | {"raters": tuple(found["raters"])}))


def open_study(
    store: Store, settings: Settings, synthetic: Sequence[str], real: Sequence[str], **origin: Any
) -> Study:
    """Begins a study or goes on with it; images that the pool has got since are added at the end.

    Args:
      store: where it is kept.
      settings: see there.
      synthetic: ids of the pool.
      real: ids of real images, to be hidden among them.
      **origin: further facts that must stay the same, e.g. which pool it is.

    Raises:
      UserError: the study was begun with other settings, or on images that are no longer there.
    """
    settings.validate()
    wanted = dataclasses.asdict(settings) | origin
    found = store.begin(settings.name, wanted)
    if not settings.raters_per_image:
        found["raters"] = wanted["raters"]  # any may join, each sees everything
    for key, value in wanted.items():
        old = found.get(key)
        if old != (list(value) if isinstance(value, tuple) and isinstance(old, list) else value):
            raise UserError(
                f"The study {settings.name!r} was begun with {key}={old!r}, not {value!r}; set "
                "that again, or give another --config.review.name."
            )
    _add_tasks(store, settings, [str(one) for one in synthetic], [str(one) for one in real])
    return Study(store, settings)


def _add_tasks(
    store: Store, settings: Settings, synthetic: Sequence[str], real: Sequence[str]
) -> None:
    """Gives every rater the showings that are missing."""
    have = {rater: store.tasks(settings.name, rater) for rater in store.raters(settings.name)}
    known = {task.sample_id: task.real for tasks in have.values() for task in tasks}
    lost = known.keys() - set(synthetic) - set(real)
    if lost:
        raise UserError(
            f"The study {settings.name!r} was begun on other images ({min(lost)} is no longer "
            "there); give another --config.review.name."
        )
    rng = np.random.default_rng(settings.seed)
    if known:
        room = settings.images - sum(not is_real for is_real in known.values())
        fresh = [one for one in synthetic if one not in known]
        fresh = fresh if not settings.images else fresh[: max(0, room)]
        hidden: list[str] = []
    else:
        fresh = list(synthetic)
        if settings.images and settings.images < len(fresh):
            chosen = rng.choice(len(fresh), settings.images, replace=False)
            fresh = [fresh[i] for i in np.sort(chosen)]
        count = design.reals_for(len(fresh), settings.real_share, len(real))
        hidden = [real[i] for i in np.sort(rng.choice(len(real), count, replace=False))]
    added = [(one, False) for one in fresh] + [(one, True) for one in hidden]
    shares = design.assign(
        len(added), settings.raters, settings.raters_per_image, settings.seed + len(known)
    )
    plans = {}
    for rater in settings.raters:
        mine = [added[row] for row in shares[rater]]
        if not have.get(rater) and not settings.raters_per_image:
            mine = [*known.items(), *mine]
        plans[rater] = design.plan(
            [one for one, is_real in mine if not is_real],
            [one for one, is_real in mine if is_real],
            rater,
            settings.repeats,
            settings.seed + len(have.get(rater, ())),
        )
    store.add_tasks(settings.name, plans)
