"""Real images and pools of "synthetic" ones whose every fault is known.

A pool stands for the samples of a generator: phantoms of patients that no real split has, a share
of them with one fault each, and on all of them the generator's trace (`marks.py`). Fault and trace
have nothing to do with each other, so a network that looks for the trace finds no fault.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.vrn_truth import marks
from data import tables
from data.builders.phantom import anatomy, faults
from data.builders.phantom.render import render
from data.records import ArrayRecords, from_unit

SIZE = 64  # pixels a side, the fewest that the analyser measures
CLASSES = anatomy.LABELS
FAMILIES: Mapping[str, Sequence[str]] = {"absurd": faults.ABSURD, "texture": faults.TEXTURE}
_NAMES = ("real", "first", "second")
_POPULATIONS = 8  # more than there are names
_VISITS = 2  # images of each patient of the training split


@dataclasses.dataclass(frozen=True)
class Pool:
    """N images marked as synthetic, and the truth about each.

    Attributes:
        records: images, labels and ids.
        kind: int64 [N], of `faults.KINDS`, or `faults.NONE`.
    """

    records: ArrayRecords
    kind: np.ndarray

    @property
    def sound(self) -> np.ndarray:
        """Bool [N]: no fault."""
        return self.kind == faults.NONE


def population(seed: int, name: str) -> int:
    """Seed of the patients of 'real', 'first' or 'second'; nobody is in two of them."""
    return seed * _POPULATIONS + _NAMES.index(name)


def first(seed: int, count: int, rate: float, kinds: Sequence[str], trace: str = "faint") -> Pool:
    """The pool that is annotated; see `make`."""
    return make(population(seed, "first"), count, rate, kinds, trace)


def second(seed: int, count: int, rate: float, kinds: Sequence[str], trace: str = "faint") -> Pool:
    """The pool that is filtered; see `make`."""
    return make(population(seed, "second"), count, rate, kinds, trace)


def make(
    population: int, count: int, rate: float, kinds: Sequence[str], trace: str = "faint"
) -> Pool:
    """A pool with the same share of faults in every class, each kind as often as the others.

    Args:
        population: seed of the patients.
        count: images; the classes take turns.
        rate: share of them with a fault, in [0, 1], to the nearest image of each class.
        kinds: names of the faults, of `faults.KINDS`.
        trace: the generator's, of `marks.MARKS`.
    """
    people = np.arange(count)
    a = anatomy.draw(population, people, np.zeros_like(people))
    kind = dealt(population, a.label, rate, kinds)
    images = marks.MARKS[trace](faults.inject(a, kind, (SIZE, SIZE)).pictures.image)
    return Pool(_records(images, a, "pool", synthetic=True), kind)


def dealt(population: int, labels: np.ndarray, rate: float, kinds: Sequence[str]) -> np.ndarray:
    """Which of N images gets which fault; int64 [N], of `faults.KINDS`, or `faults.NONE`."""
    kind = np.full(len(labels), faults.NONE)
    rng = np.random.default_rng((population, round(1000 * rate)))
    numbers = [faults.KINDS.index(name) for name in kinds]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        bad = rows[: round(rate * len(rows))]
        kind[bad] = np.resize(rng.permutation(numbers), len(bad))
    return kind


def _records(images: np.ndarray, a: anatomy.Anatomy, name: str, *, synthetic: bool) -> ArrayRecords:
    ids = [f"{name}-{p:05d}-{v:02d}" for p, v in zip(a.patient, a.visit, strict=True)]
    return ArrayRecords(
        from_unit(images, np.uint8), a.label, ids, anatomy.LABELS, synthetic=synthetic
    )


def write_reals(path: pathlib.Path, seed: int, per_class: Mapping[str, int]) -> None:
    """Writes the real splits of a seed as one npz file, as `launch.prepare` reads them.

    Args:
        path: of the file.
        seed: of the patients; no two splits share one.
        per_class: images of each class in 'train' (two of each patient), 'val' and 'test'.
    """
    arrays, start = {}, 0
    for split, count in per_class.items():
        visits = _VISITS if split == "train" else 1
        images = count * len(anatomy.LABELS)
        patients, visit = np.divmod(np.arange(images), visits)
        a = anatomy.draw(population(seed, "real"), start + patients, visit)
        start += images
        arrays[f"{split}_images"] = from_unit(render(a, (SIZE, SIZE)).image[..., 0], np.uint8)
        arrays[f"{split}_labels"] = a.label
        arrays[f"{split}_patients"] = a.patient
    tables.write_npz(path, **arrays)
