"""Who is pictured: the parameters of a phantom, drawn from a seed, a patient and a visit.

Lengths are in units of half the image: x runs from -1 (the patient's right, on the viewer's left)
to 1, y from -1 (head) to 1 (feet), z from -1 (front) to 1 (back). Every parameter is drawn
uniformly; the numbers at each are its bounds.
"""

import dataclasses
import functools
from typing import Annotated, Any, get_type_hints

import numpy as np

LABELS = ("healthy", "nodule", "effusion", "enlarged_heart")
SITES = 3
RIBS = 7  # on each side, in everyone
_PATIENT, _VISIT, _DISEASE, NOISE, FAULT = range(5)  # streams of random numbers


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """A parameter's stream of random numbers, which tells who shares it, and its bounds."""

    stream: int
    low: float
    high: float


def _array(stream: int, low: float, high: float) -> Any:
    """The type of a field that is drawn."""
    return Annotated[np.ndarray, _Drawn(stream, low, high)]


_of_patient = functools.partial(_array, _PATIENT)  # the same in all images of a patient
_of_visit = functools.partial(_array, _VISIT)  # another one in every image
_of_disease = functools.partial(_array, _DISEASE)  # of a patient; unused where there is no lesion


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """B phantoms. Every field is an array [B], of float32 where nothing else is said."""

    seed: int
    patient: np.ndarray  # int64
    visit: np.ndarray  # int64
    label: np.ndarray  # int64, of LABELS
    sex: np.ndarray  # int64, 0 or 1
    site: np.ndarray  # int64, below SITES

    age: _of_patient(20, 90)  # years
    thorax_width: _of_patient(0.76, 0.84)  # half of it, at its widest
    thorax_top: _of_patient(-0.86, -0.78)
    flesh: _of_patient(0.08, 0.15)  # between ribs and skin
    lung_gap: _of_patient(0.10, 0.14)  # of a lung's inner border to the midline
    lung_base: _of_patient(0.50, 0.58)  # where lung and diaphragm meet at the side
    dome_right: _of_patient(0.19, 0.25)  # height of the diaphragm
    dome_left: _of_patient(0.12, 0.17)  # the liver lifts the right one
    heart_x: _of_patient(0.13, 0.17)  # of its centre
    heart_y: _of_patient(0.15, 0.20)
    heart_length: _of_patient(0.31, 0.35)  # half of it
    heart_breadth: _of_patient(0.22, 0.25)
    heart_angle: _of_patient(0.5, 0.8)  # its long axis below the horizontal, radians
    rib_drop: _of_patient(0.24, 0.32)  # of a rib on its way from back to front
    rib_width: _of_patient(0.20, 0.25)  # half of it, in units of their distance
    rib_top: _of_patient(-0.80, -0.76)  # where the first one leaves the spine
    vessel_turn: _of_patient(0, 1)  # how the vessels of the lungs branch

    shift_x: _of_visit(-0.04, 0.04)
    shift_y: _of_visit(-0.04, 0.04)
    turn: _of_visit(-0.05, 0.05)  # radians
    scale: _of_visit(0.97, 1.03)
    breath: _of_visit(0.0, 0.06)  # how far the diaphragm is up
    exposure: _of_visit(-0.06, 0.06)

    lesion_side: _of_disease(-1, 1)  # its sign
    lesion_across: _of_disease(0, 1)  # where in the lung, from inside to outside
    lesion_down: _of_disease(0, 1)
    lesion_size: _of_disease(0, 1)  # from the smallest to the largest

    # What only the fault injector changes.
    mirror: np.ndarray  # 1, or -1: organs on the wrong side
    second_heart: np.ndarray  # [B, 3]: x, y, and its size; size 0 for none
    ribs: np.ndarray  # [B, 2, RIBS], right and left: 1 where there is one, else 0
    rib_break: np.ndarray  # [B, 2, 3]: x of a break, a jump (rib distances), a wave's height
    bite: np.ndarray  # [B, 4]: x, y, radius and raggedness of the part torn from a lung

    def __len__(self) -> int:
        return len(self.patient)

    def replace(self, **changes: np.ndarray) -> "Anatomy":
        """A copy with other values of these fields."""
        return dataclasses.replace(self, **changes)

    def take(self, rows: np.ndarray) -> "Anatomy":
        """The phantoms at `rows`, integers or a mask."""
        fields = (field.name for field in dataclasses.fields(self) if field.name != "seed")
        return self.replace(**{name: getattr(self, name)[rows] for name in fields})


_HINTS = get_type_hints(Anatomy, include_extras=True)
_DRAWN = {
    name: drawn for name, hint in _HINTS.items() for drawn in getattr(hint, "__metadata__", ())
}


def stream(seed: int, kind: int, *numbers: int) -> np.random.Generator:
    """The random numbers of one kind for one patient (and visit)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, kind, *numbers))))


def draw(
    seed: int, patients: np.ndarray, visits: np.ndarray, labels: np.ndarray | None = None
) -> Anatomy:
    """The phantoms of patients [B] at visits [B], whatever else is drawn with them.

    Args:
        seed: of the whole population, at least 0.
        patients: integers of at least 0.
        visits: integers of at least 0.
        labels: indices into LABELS; without them patients 0, 1, 2, 3, 4, … have 0, 1, 2, 3, 0, ….
    """
    patients, visits = np.asarray(patients, np.int64), np.asarray(visits, np.int64)
    labels = patients % len(LABELS) if labels is None else np.asarray(labels, np.int64)
    who = np.array([stream(seed, _PATIENT, p).random(2 + _count(_PATIENT)) for p in patients])
    when = np.array(
        [
            stream(seed, _VISIT, p, v).random(_count(_VISIT))
            for p, v in zip(patients, visits, strict=True)
        ]
    )
    what = np.array([stream(seed, _DISEASE, p).random(_count(_DISEASE)) for p in patients])
    numbers = {_PATIENT: iter(who[:, 2:].T), _VISIT: iter(when.T), _DISEASE: iter(what.T)}
    values = {
        name: (drawn.low + (drawn.high - drawn.low) * next(numbers[drawn.stream])).astype(
            np.float32
        )
        for name, drawn in _DRAWN.items()
    }
    count = len(patients)
    return Anatomy(
        seed=seed,
        patient=patients,
        visit=visits,
        label=labels,
        sex=(2 * who[:, 0]).astype(np.int64),
        site=(SITES * who[:, 1]).astype(np.int64),
        mirror=np.ones(count, np.float32),
        second_heart=np.zeros((count, 3), np.float32),
        ribs=np.ones((count, 2, RIBS), np.float32),
        rib_break=np.zeros((count, 2, 3), np.float32),
        bite=np.zeros((count, 4), np.float32),
        **values,
    )


def _count(kind: int) -> int:
    """How many parameters are drawn from a stream."""
    return sum(drawn.stream == kind for drawn in _DRAWN.values())
