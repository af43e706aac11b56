"""Real images and pools of "synthetic" ones whose every fault is known.

A pool stands for the samples of a generator: phantoms of patients that no real split has, a share
of them with one fault each, and on all of them the faint trace that upsampling leaves. Fault and
trace have nothing to do with each other, so a network that looks for the trace finds no fault.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from data import tables
from data.builders.phantom import anatomy, faults
from data.builders.phantom.render import render
from data.records import ArrayRecords, from_unit

SIZE = 64  # pixels a side, the fewest that the analyser measures
CLASSES = anatomy.LABELS
FAMILIES: Mapping[str, Sequence[str]] = {"absurd": faults.ABSURD, "texture": faults.TEXTURE}
TRACE = 0.04  # height of the generator's trace; the grain of a site's images is 0.02 to 0.055
# Populations of one seed: nobody is in two of them.
_REAL, _FIRST, _SECOND = range(3)
_POPULATIONS = 8
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


def first(seed: int, count: int, rate: float, kinds: Sequence[str], trace: float = TRACE) -> Pool:
    """The pool that is annotated; see `make`."""
    return make(seed * _POPULATIONS + _FIRST, count, rate, kinds, trace)


def second(seed: int, count: int, rate: float, kinds: Sequence[str], trace: float = TRACE) -> Pool:
    """The pool that is filtered; see `make`."""
    return make(seed * _POPULATIONS + _SECOND, count, rate, kinds, trace)


def make(
    population: int, count: int, rate: float, kinds: Sequence[str], trace: float = TRACE
) -> Pool:
    """A pool with the same share of faults in every class, each kind as often as the others.

    Args:
        population: seed of the patients.
        count: images; the classes take turns.
        rate: share of them with a fault, in [0, 1], to the nearest image of each class.
        kinds: names of the faults, of `faults.KINDS`.
        trace: height of the generator's trace, of an image's range of 2; 0 for none.
    """
    people = np.arange(count)
    a = anatomy.draw(population, people, np.zeros_like(people))
    kind = np.full(count, faults.NONE)
    rng = np.random.default_rng((population, round(1000 * rate)))
    for label in np.unique(a.label):
        rows = rng.permutation(np.flatnonzero(a.label == label))
        bad = rows[: round(rate * len(rows))]
        numbers = [faults.KINDS.index(name) for name in kinds]
        kind[bad] = np.resize(rng.permutation(numbers), len(bad))
    images = faults.inject(a, kind, (SIZE, SIZE)).pictures.image
    return Pool(_records(_traced(images, trace), a, "pool", synthetic=True), kind)


def _traced(images: np.ndarray, height: float) -> np.ndarray:
    """Images with the same pattern of period 2, far weaker than the fault `checkerboard`."""
    pattern = (-1.0) ** np.add.outer(np.arange(SIZE), np.arange(SIZE)) / 2
    return np.clip(images + np.float32(height) * pattern[..., None].astype(np.float32), -1, 1)


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
        a = anatomy.draw(seed * _POPULATIONS + _REAL, start + patients, visit)
        start += images
        arrays[f"{split}_images"] = from_unit(render(a, (SIZE, SIZE)).image[..., 0], np.uint8)
        arrays[f"{split}_labels"] = a.label
        arrays[f"{split}_patients"] = a.patient
    tables.write_npz(path, **arrays)
