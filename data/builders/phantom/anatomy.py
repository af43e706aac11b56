"""Who is pictured: the parameters of a phantom, drawn from a seed, a patient and a visit.

Lengths are in units of half the image: x runs from -1 (the patient's right, on the viewer's left)
to 1, y from -1 (head) to 1 (feet), z from -1 (front) to 1 (back). Every parameter is drawn
uniformly; the numbers at each are its bounds.
"""

import dataclasses

import numpy as np

LABELS = ("healthy", "nodule", "effusion", "enlarged_heart")
SITES = 3
RIBS = 7  # on each side, in everyone
_PATIENT, _VISIT, _DISEASE, NOISE, FAULT = range(5)  # streams of random numbers


def _of_patient(low: float, high: float) -> np.ndarray:
    """The same in all images of a patient."""
    return dataclasses.field(metadata={"stream": _PATIENT, "bounds": (low, high)})


def _of_visit(low: float, high: float) -> np.ndarray:
    """Another one in every image."""
    return dataclasses.field(metadata={"stream": _VISIT, "bounds": (low, high)})


def _of_disease(low: float, high: float) -> np.ndarray:
    """The same in all images of a patient; without effect where the label is another."""
    return dataclasses.field(metadata={"stream": _DISEASE, "bounds": (low, high)})


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """B phantoms. Every field is an array [B], of float32 where nothing else is said."""

    seed: int
    patient: np.ndarray  # int64
    visit: np.ndarray  # int64
    label: np.ndarray  # int64, of LABELS
    sex: np.ndarray  # int64, 0 or 1
    site: np.ndarray  # int64, below SITES

    age: np.ndarray = _of_patient(20, 90)  # years
    thorax_width: np.ndarray = _of_patient(0.76, 0.84)  # half of it, at its widest
    thorax_top: np.ndarray = _of_patient(-0.86, -0.78)
    flesh: np.ndarray = _of_patient(0.08, 0.15)  # between ribs and skin
    lung_gap: np.ndarray = _of_patient(0.10, 0.14)  # of a lung's inner border to the midline
    lung_base: np.ndarray = _of_patient(0.50, 0.58)  # where lung and diaphragm meet at the side
    dome_right: np.ndarray = _of_patient(0.19, 0.25)  # height of the diaphragm
    dome_left: np.ndarray = _of_patient(0.12, 0.17)  # the liver lifts the right one
    heart_x: np.ndarray = _of_patient(0.13, 0.17)  # of its centre
    heart_y: np.ndarray = _of_patient(0.15, 0.20)
    heart_length: np.ndarray = _of_patient(0.31, 0.35)  # half of it
    heart_breadth: np.ndarray = _of_patient(0.22, 0.25)
    heart_angle: np.ndarray = _of_patient(0.5, 0.8)  # its long axis below the horizontal, radians
    rib_drop: np.ndarray = _of_patient(0.24, 0.32)  # of a rib on its way from back to front
    rib_width: np.ndarray = _of_patient(0.20, 0.25)  # half of it, in units of their distance
    rib_top: np.ndarray = _of_patient(-0.80, -0.76)  # where the first one leaves the spine
    vessel_turn: np.ndarray = _of_patient(0, 1)  # how the vessels of the lungs branch

    shift_x: np.ndarray = _of_visit(-0.04, 0.04)
    shift_y: np.ndarray = _of_visit(-0.04, 0.04)
    turn: np.ndarray = _of_visit(-0.05, 0.05)  # radians
    scale: np.ndarray = _of_visit(0.97, 1.03)
    breath: np.ndarray = _of_visit(0.0, 0.06)  # how far the diaphragm is up
    exposure: np.ndarray = _of_visit(-0.06, 0.06)

    lesion_side: np.ndarray = _of_disease(-1, 1)  # its sign
    lesion_across: np.ndarray = _of_disease(0, 1)  # where in the lung, from inside to outside
    lesion_down: np.ndarray = _of_disease(0, 1)
    lesion_size: np.ndarray = _of_disease(0, 1)  # from the smallest to the largest

    # What only the fault injector changes.
    mirror: np.ndarray = None  # 1, or -1: organs on the wrong side
    second_heart: np.ndarray = None  # [B, 3]: x, y, and its size; size 0 for none
    ribs: np.ndarray = None  # [B, 2, RIBS], right and left: 1 where there is one, else 0
    rib_break: np.ndarray = None  # [B, 2, 3]: x of a break, a jump in rib distances, a wave's height
    bite: np.ndarray = None  # [B, 4]: x, y, radius and raggedness of the part torn from a lung

    def __len__(self) -> int:
        return len(self.patient)

    def replace(self, **changes: np.ndarray) -> "Anatomy":
        """A copy with other values of these fields."""
        return dataclasses.replace(self, **changes)

    def take(self, rows: np.ndarray) -> "Anatomy":
        """The phantoms at `rows`, integers or a mask."""
        fields = (field.name for field in dataclasses.fields(self) if field.name != "seed")
        return self.replace(**{name: getattr(self, name)[rows] for name in fields})


_DRAWN = {
    stream: [f for f in dataclasses.fields(Anatomy) if f.metadata.get("stream") == stream]
    for stream in (_PATIENT, _VISIT, _DISEASE)
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
    who = np.array([stream(seed, _PATIENT, p).random(2 + len(_DRAWN[_PATIENT])) for p in patients])
    when = np.array(
        [
            stream(seed, _VISIT, p, v).random(len(_DRAWN[_VISIT]))
            for p, v in zip(patients, visits, strict=True)
        ]
    )
    what = np.array([stream(seed, _DISEASE, p).random(len(_DRAWN[_DISEASE])) for p in patients])
    values = {}
    for fields, numbers in (
        (_DRAWN[_PATIENT], who[:, 2:]), (_DRAWN[_VISIT], when), (_DRAWN[_DISEASE], what),
    ):  # fmt: skip
        for field, number in zip(fields, numbers.T, strict=True):
            low, high = field.metadata["bounds"]
            values[field.name] = (low + (high - low) * number).astype(np.float32)
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
