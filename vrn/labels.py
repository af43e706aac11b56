"""labels.parquet: who called which synthetic image real-like, how surely, and in how many seconds.

One row per image and rater. Automatic annotators and people write the same file; automatic raters
are named 'auto:<annotator>', so that a person's word can overrule them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path

import numpy as np

from data import tables
from data.errors import UserError

KINDS = ("non-real-like", "real-like")
AUTO = "auto:"
TOGETHER = "review:"  # what the raters of a study say together, by the rule after the colon


@dataclasses.dataclass(frozen=True)
class Labels:
    """The columns of labels.parquet, M rows.

    Attributes:
      sample_id: str [M], names of synthetic images.
      rater: str [M].
      label: str [M], one of KINDS.
      score: float64 [M] in [0, 1]; >= 0.5 for real-like ones, < 0.5 for the others.
      seconds: float64 [M], time spent on the image.
      time: float64 [M], when, in seconds since 1970 (UTC).
    """

    sample_id: np.ndarray
    rater: np.ndarray
    label: np.ndarray
    score: np.ndarray
    seconds: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.sample_id)

    def digest(self) -> str:
        """SHA-256 over who said what of which image."""
        columns = (map(str, column) for column in (self.sample_id, self.rater, self.score))
        rows = zip(*columns, strict=True)
        return hashlib.sha256("\n".join(sorted(map("\t".join, rows))).encode()).hexdigest()

    def where(self, rows: np.ndarray) -> Labels:
        """The rows that `rows` (indices or a mask) selects."""
        return Labels(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def from_scores(
    sample_ids: np.ndarray, rater: str, scores: np.ndarray, seconds_per_image: float
) -> Labels:
    """Labels of one automatic rater: scores [M] >= 0.5 are real-like."""
    scores, count = np.asarray(scores, np.float64), len(sample_ids)
    return Labels(
        sample_id=np.asarray(sample_ids, np.str_),
        rater=np.full(count, rater),
        label=np.asarray(KINDS)[(scores >= 0.5).astype(int)],
        score=scores,
        seconds=np.full(count, float(seconds_per_image)),
        time=np.full(count, time.time()),
    )


def concatenate(*parts: Labels) -> Labels:
    """All rows of several tables, in order."""
    names = [field.name for field in dataclasses.fields(Labels)]
    return Labels(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def validate(labels: Labels, source: str) -> None:
    """Raises a UserError that names `source` and the first row that breaks the format."""

    def reject(bad: np.ndarray, what: str) -> None:
        if bad.any():
            raise UserError(f"{source}: row {int(np.argmax(bad))} has {what}; mend or remove it.")

    sizes = {field.name: len(getattr(labels, field.name)) for field in dataclasses.fields(Labels)}
    if len(set(sizes.values())) != 1:
        raise UserError(f"{source}: its columns differ in length ({sizes}); write it again.")
    reject(labels.sample_id == "", "no sample_id")
    reject(labels.rater == "", "no rater")
    reject(~np.isin(labels.label, KINDS), f"a label other than {' or '.join(KINDS)}")
    reject(~((labels.score >= 0) & (labels.score <= 1)), "a score outside [0, 1]")
    reject(
        (labels.score >= 0.5) != (labels.label == KINDS[1]),
        "a score on the other side of 0.5 than its label",
    )
    reject(~(labels.seconds >= 0), "negative or missing seconds")
    reject(~np.isfinite(labels.time), "no time")
    pairs = list(zip(labels.sample_id, labels.rater, strict=True))
    if len(set(pairs)) != len(pairs):
        raise UserError(f"{source}: an image has two labels by one rater; keep the later one.")


def write_labels(path: str | Path, labels: Labels) -> None:
    """Validates and writes atomically."""
    validate(labels, str(path))
    tables.write_parquet(path, dataclasses.asdict(labels))


def read_labels(path: str | Path) -> Labels:
    """Reads and validates.

    Raises:
      UserError: missing or damaged file, missing column, or a row that breaks the format.
    """
    columns = tables.read_parquet(path)
    names = [field.name for field in dataclasses.fields(Labels)]
    missing = [name for name in names if name not in columns]
    if missing:
        raise UserError(f"{path} lacks the column(s) {', '.join(missing)}; write it again.")
    texts = ("sample_id", "rater", "label")
    labels = Labels(
        **{
            name: np.asarray(columns[name], np.str_ if name in texts else np.float64)
            for name in names
        }
    )
    validate(labels, str(path))
    return labels


def resolve(labels: Labels, sample_ids: np.ndarray) -> np.ndarray:
    """One verdict per image of a pool.

    People overrule automatic raters; among raters of one sort the majority decides, and a draw
    goes to the latest word.

    Args:
      labels: the table; rows of images outside the pool are ignored.
      sample_ids: str [N], the pool.

    Returns:
      int8 [N]: 1 real-like, 0 non-real-like, -1 unlabelled.
    """
    verdicts = np.full(len(sample_ids), -1, np.int8)
    place = {sample_id: row for row, sample_id in enumerate(sample_ids)}
    votes: dict[int, list[tuple[float, int]]] = {}
    human = ~np.char.startswith(labels.rater, AUTO)
    # Automatic votes first: the first human vote on an image then throws them out.
    for is_human in (False, True):
        fresh: dict[int, list[tuple[float, int]]] = {}
        for index in np.flatnonzero(human == is_human):
            row = place.get(labels.sample_id[index])
            if row is not None:
                vote = (labels.time[index], int(labels.label[index] == KINDS[1]))
                fresh.setdefault(row, []).append(vote)
        votes |= fresh
    for row, cast in votes.items():
        share = np.mean([vote for _, vote in cast])
        verdicts[row] = max(cast)[1] if share == 0.5 else int(share > 0.5)
    return verdicts
