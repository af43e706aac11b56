"""DICOM series: the slices of one series, or the frames of one file, are one volume."""

import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut
from tqdm import tqdm

from data import preprocess
from data.errors import RefusedError
from data.sources import dicom, labels, limits, parts, volume
from data.sources.entries import Entries, Files
from data.sources.raw import Decoded, Entry, Listing, Options, Picture

_SAME_PLACE = 0.01  # mm between slices that lie in one place
_UNEVEN = 0.05  # how far a step may be off the usual one, as a share of it
_SHIFTED = 0.5  # how far a slice may be off the line of all, pixels
_PARALLEL = 1e-3  # how far directions may be apart, as a share of their length


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice as it is stored, and where it lies.

    Attributes:
        name: of its file, and frame, for messages.
        stored: [H, W].
        header: elements that turn stored values into shown ones.
        kind: photometric interpretation and bits.
        position: mm, [3], of the centre of the first pixel; to the left, posterior, superior.
        across, down: unit vectors [3] along a row and along a column.
        spacing: mm between rows and between columns.
        full: lowest and highest value of its file.
    """

    name: str
    stored: np.ndarray
    header: Dataset
    kind: tuple[str, int]
    position: np.ndarray
    across: np.ndarray
    down: np.ndarray
    spacing: np.ndarray
    full: tuple[float, float]


class _Volumes(Entries):
    """One entry for each series, with the name of its first file and those of all as slices."""

    def __init__(self, files: Files, series: np.ndarray) -> None:
        """Take files and the number of the series of each [N], in the order of the series."""
        self._files, self._rows = files, np.argsort(series, kind="stable")
        self._ends = np.cumsum(np.bincount(series))

    def __len__(self) -> int:
        return len(self._ends)

    def some(self, start: int, stop: int) -> Iterator[Entry]:
        """See `Entries.some`."""
        for place in range(start, stop):
            first = self._ends[place - 1] if place else 0
            files = self._files.take(self._rows[first : self._ends[place]])
            yield dataclasses.replace(files[0], slices=tuple(files))


def list_series(path: pathlib.Path, folder: pathlib.Path, options: Options) -> Listing:
    """Files as `dicom.list_dicom` finds them, those of one SeriesInstanceUID as one entry.

    It has the name of the first of them. A file of several frames is a volume of its own.

    Raises:
        UserError: as `labels.entries`.
    """
    files, names = labels.entries(path, dicom.find_files, options.labels, "dicom", folder)
    places: dict[str, int] = {}
    with parts.quiet():
        found = (
            places.setdefault(_series_of(entry), len(places))
            for entry in tqdm(files, desc="headers", unit="file", disable=None)
        )
        volumes = _Volumes(files, np.fromiter(found, np.int64, len(files)))
    windowed = not preprocess.works_in_units(preprocess.parse(options.preprocess, 1))
    whole = functools.partial(decode, windowed=windowed)
    return Listing(volumes, names, whole, "dicom", str(path))


def _series_of(entry: Entry) -> str:
    """What files of one volume have in common; a file that can't be read has nothing."""
    try:
        header = dicom.read_header(entry.file, ("SeriesInstanceUID", "NumberOfFrames"))
        series = str(header.get("SeriesInstanceUID") or "").strip()
        if series and int(header.get("NumberOfFrames") or 1) == 1:
            return f"series\0{series}"
    except Exception:  # decoding it will say why
        pass
    return f"file\0{entry.file}"


def decode(entry: Entry, windowed: bool = True) -> Decoded:
    """The volume of a series, its slices in the order in which they lie.

    Values go through the modality LUT. The window of the header is applied where it is the same for
    all slices; otherwise the full range of the volume becomes 0 to the highest value, and of images
    of 8 bits that of their bits.

    Args:
        entry: of one file, or of a series.
        windowed: whether the header's window is applied.

    Raises:
        RefusedError: a file that `dicom.decode` refuses, slices that do not fit together or say not
            where they lie; names them.
    """
    files = entry.slices or (entry,)
    if len({(one.label, one.split, one.patient) for one in files}) > 1:
        raise RefusedError("is a series whose files have several labels, splits or patients")
    slices, owners, needed, size = [], set(), 0, 0
    for one in files:
        try:
            dataset, frames = dicom.read(one.file)
        except Exception as error:  # decoders fail in many ways, none of them ours
            why = parts.why(error, one)
            where = f"has a slice, {one.name}, that " if len(files) > 1 else ""
            raise RefusedError(where + why) from None
        needed, size = needed + frames.nbytes, size + os.path.getsize(one.file)
        why = limits.complaint(needed, size)
        if why is not None:
            raise RefusedError(why)
        owners.add(dicom.owner(dataset, one))
        slices += _slices(one, dataset, frames)
    if len(owners) > 1 and not files[0].patient:
        raise RefusedError("is a series of several patients")
    affine, slices = _placed(slices)
    return Decoded([_picture(slices, affine, windowed)], owner=min(owners))


def _slices(entry: Entry, dataset: Dataset, frames: np.ndarray) -> Iterator[Slice]:
    kind = dataset.PhotometricInterpretation
    if kind not in dicom.GREY:
        raise RefusedError("is in colour; volumes have to be grey")
    full = dicom.full_range(dataset, frames[..., 0])
    for index, frame in enumerate(frames[..., 0]):
        name = entry.name if len(frames) == 1 else f"{entry.name}#{index}"
        place = dicom.nearest(dataset, index, dicom.PLACE_GROUPS, dicom.PLACE)
        missing = [keyword for keyword in dicom.PLACE if not place.get(keyword)]
        if missing:
            raise RefusedError(f"does not tell where its slices lie ({name} has no {missing[0]})")
        position, direction, spacing = (np.array(place[x].value, float) for x in dicom.PLACE)
        across, down = direction[:3], direction[3:]
        whole = (position.shape, direction.shape, spacing.shape) == ((3,), (6,), (2,))
        if not (whole and dicom.is_frame(across, down) and np.isfinite(position).all()
                and (spacing > 0).all()):  # fmt: skip
            raise RefusedError(f"does not tell where its slices lie ({name} has impossible values)")
        yield Slice(
            name, frame, dicom.display(dataset, index), (kind, dataset.BitsStored), position,
            across, down, spacing, full,
        )  # fmt: skip


def _placed(slices: Sequence[Slice]) -> tuple[np.ndarray, list[Slice]]:
    """The affine [4, 4] from (slice, row, column) to mm, as NIfTI has it, and the slices in order.

    Slices are ordered along their normal. Where they are shifted against each other by the same
    amount each, as with a tilted gantry, the affine has that shear.

    Raises:
        RefusedError: slices that make no volume; names two of them.
    """
    if len(slices) < 2:
        raise RefusedError("is a single slice, not a volume")
    first = slices[0]
    for one in slices:
        pair = f"{first.name} and {one.name}"
        if one.stored.shape != first.stored.shape or one.kind != first.kind:
            raise RefusedError(f"has slices of different sizes or kinds ({pair})")
        apart = np.concatenate([one.across - first.across, one.down - first.down])
        if np.abs(apart).max() > _PARALLEL:
            raise RefusedError(f"has slices that are not parallel ({pair})")
        if np.abs(one.spacing / first.spacing - 1).max() > _PARALLEL:
            raise RefusedError(f"has slices of different pixel spacings ({pair})")
    normal = np.cross(first.across, first.down)
    ordered = sorted(slices, key=lambda one: float(one.position @ normal))
    steps = np.diff([float(one.position @ normal) for one in ordered])
    usual = float(np.median(steps))
    for (one, other), step in zip(itertools.pairwise(ordered), steps, strict=True):
        if step < _SAME_PLACE:
            raise RefusedError(f"has two slices in one place ({one.name} and {other.name})")
    for (one, other), step in zip(itertools.pairwise(ordered), steps, strict=True):
        if abs(step - usual) > _UNEVEN * usual:
            raise RefusedError(
                f"has a gap or a step between slices of {step:.4g} mm where others have "
                f"{usual:.4g} mm ({one.name} and {other.name})"
            )
    start, end = ordered[0].position, ordered[-1].position
    step = (end - start) / (len(ordered) - 1)
    for number, one in enumerate(ordered):
        off = one.position - (start + number * step)
        off -= (off @ normal) * normal
        if np.linalg.norm(off) > _SHIFTED * first.spacing.min():
            raise RefusedError(f"has slices that are shifted against each other ({one.name})")
    affine = np.eye(4)
    rows, columns = first.spacing
    affine[:3] = np.stack([step, first.down * rows, first.across * columns, start], axis=1)
    return dicom.LPS_TO_RAS @ affine, ordered


def _picture(slices: Sequence[Slice], affine: np.ndarray, windowed: bool) -> Picture:
    kind, bits = slices[0].kind
    ends = [one.full for one in slices]
    low, high = float(min(x for x, _ in ends)), float(max(x for _, x in ends))
    window = _common_window(slices)
    if not low < high:
        raise RefusedError("has the same value everywhere")
    if windowed and window is not None:
        low, high = window
    dtype = np.dtype(np.uint16 if bits > 8 else np.uint8)
    pixels = np.empty((len(slices), *slices[0].stored.shape), dtype)
    lowest, highest = np.inf, -np.inf
    for place, one in zip(pixels, slices, strict=True):
        values = _values(one)
        lowest, highest = min(lowest, values.min()), max(highest, values.max())
        unit = dicom.between(values, low, high)
        unit = 1 - unit if kind == "MONOCHROME1" else unit
        place[...] = np.rint(unit * np.iinfo(dtype).max)
    if kind == "MONOCHROME1":
        low, high = high, low
    return volume.picture(
        pixels, affine, low=low, high=high, bits=bits, minimum=float(lowest),
        maximum=float(highest), window=window or (np.nan, np.nan),
    )  # fmt: skip


def _values(one: Slice) -> np.ndarray:
    values = apply_modality_lut(one.stored, one.header).astype(np.float64)
    if not np.isfinite(values).all():
        raise RefusedError("has values that are not finite once rescaled")
    return values


def _common_window(slices: Sequence[Slice]) -> tuple[float, float] | None:
    """Ends of the linear window that all slices have; None where they differ or have another."""
    found = set()
    for one in slices:
        shown = dicom.windowed_values(np.zeros(1), one.header)
        found.add(None if shown is None or not np.isfinite(shown[1:]).all() else shown[1:])
    return found.pop() if len(found) == 1 else None
