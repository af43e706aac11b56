"""DICOM files: each frame is one image, as the windows and tables of the header show it."""

import functools
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from data import preprocess
from data.errors import RefusedError
from data.sources import labels, limits, masks, native
from data.sources.raw import Decoded, Entry, Listing, Options, Picture

_SUFFIXES = (".dcm", ".dicom")
# What turns stored values into shown ones; enhanced files have it per frame.
_DISPLAY = (
    "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction",
)  # fmt: skip
GREY = ("MONOCHROME1", "MONOCHROME2")
# Where slices lie; enhanced files have it per frame.
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
PLACE_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MEASURES = ("PixelSpacing", "ImagerPixelSpacing", "SpacingBetweenSlices", "SliceThickness")
# Nothing else is read from a header: names and dates never come into memory.
_TAGS = (
    *_DISPLAY, *_MEASURES, "ImagePositionPatient", "ImageOrientationPatient", "SOPClassUID",
    "PatientID", "StudyInstanceUID", "SamplesPerPixel", "Rows", "Columns",
    "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
)  # fmt: skip
# Kinds of file that have pixels but are no images.
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.481.2": "holds a dose, not an image",
    "1.2.840.10008.5.1.4.1.1.66.4": "holds a segmentation, not an image",
    "1.2.840.10008.5.1.4.1.1.66.7": "holds a segmentation, not an image",
}


def list_dicom(path: pathlib.Path, folder: pathlib.Path, options: Options) -> Listing:
    """PATH/<class>/<file>, PATH/<split>/<class>/<file>, or files anywhere with a table.

    Files are found by their content. Those of one PatientID are one group; where it is empty, those
    of one study, or of one folder.

    Raises:
        UserError: as `labels.entries`.
    """
    entries, names = labels.entries(path, find_files, options.labels, "dicom", folder)
    windowed = not preprocess.works_in_units(preprocess.parse(options.preprocess, 1))
    shown = functools.partial(decode, windowed=windowed)
    return Listing(entries, names, shown, "dicom", str(path))


def find_files(folder: pathlib.Path) -> Iterator[str]:
    """Files that say they are DICOM, in content or by name; a DICOMDIR only lists others."""
    return labels.visible_files(
        folder,
        lambda name: (
            name.rpartition("/")[2].upper() != "DICOMDIR"
            and (name.lower().endswith(_SUFFIXES) or _has_magic(f"{folder}/{name}"))
        ),
    )


def _has_magic(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:  # a link that leads nowhere, or a file that may not be read
        return False


def decode(entry: Entry, windowed: bool = True) -> Decoded:
    """Frames [H, W, C]: grey as uint8 or, of more than 8 bits, uint16; colour as uint8 RGB.

    Grey values go through modality LUT and window in float64; what the window shows darkest becomes
    0 and brightest the highest value. Where there is no window, the full range of the file does.

    Args:
        entry: the file.
        windowed: whether the header's window is applied; without, all values are there.

    Raises:
        RefusedError: not DICOM, no pixels, or pixels that are no image. Frames that can't be
            decoded raise what the decoder raises.
    """
    dataset, frames = read(entry.file)
    kind = dataset.PhotometricInterpretation
    if kind in GREY:
        pictures = _grey(dataset, frames[..., 0], windowed)
    elif kind == "PALETTE COLOR":
        pictures = _colour(dataset, apply_color_lut(frames[..., 0], dataset))
    else:
        pictures = _colour(dataset, frames)
    if len(frames) == 1:
        pictures = [masks.attached(picture, entry) for picture in pictures]
    return Decoded(pictures, owner=owner(dataset, entry))


def read(file: str) -> tuple[Dataset, np.ndarray]:
    """The elements of a file that are needed, and its frames [N, H, W, C] as they are stored.

    Raises:
        RefusedError: as `decode`.
    """
    size = _refuse_what_is_no_dicom(file)
    dataset = dcmread(file, specific_tags=list(_TAGS))
    _refuse_what_is_no_image(dataset)
    stored = _stored(dataset, pathlib.Path(file), size)
    return dataset, stored.reshape(-1, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)


def read_header(file: str, keywords: Sequence[str]) -> Dataset:
    """Some elements of a file, without its pixels.

    Raises:
        RefusedError: the file is not DICOM.
    """
    _refuse_what_is_no_dicom(file)
    return dcmread(file, specific_tags=list(keywords), stop_before_pixels=True)


def _refuse_what_is_no_dicom(file: str) -> int:
    """The size of a file that may be read, in bytes."""
    if not _has_magic(file):
        raise RefusedError("is no DICOM file (no DICM at byte 128)")
    size = os.path.getsize(file)
    _refuse_deflated_bombs(pathlib.Path(file), size)
    return size


def _refuse_deflated_bombs(file: pathlib.Path, size: int) -> None:
    """Pydicom would take all memory that there is."""
    with file.open("rb") as opened:
        opened.seek(132)
        meta = read_dataset(opened, False, True, stop_when=lambda tag, *_: tag.group > 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        _refuse(limits.complaint(limits.inflated(opened, size), size))


def _stored(dataset: Dataset, file: pathlib.Path, size: int) -> np.ndarray:
    """Pixels as they are stored, YBR as RGB; compressed ones are decoded in another process."""
    counts = (dataset.get("NumberOfFrames") or 1, dataset.Rows, dataset.Columns)
    samples = dataset.SamplesPerPixel * dataset.BitsAllocated // 8
    _refuse(limits.complaint(limits.product((*counts, samples)), size))
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax == DeflatedExplicitVRLittleEndian:
        return pixel_array(dataset, raw=False)
    if syntax == RLELossless:  # pydicom's own decoder is Python
        return pixel_array(dataset, raw=False, decoding_plugin="pydicom")
    try:
        return native.decode(str(file), _TAGS)
    except native.DecoderError as error:
        raise RefusedError(str(error)) from None


def _refuse(why: str | None) -> None:
    if why is not None:
        raise RefusedError(why)


def _refuse_what_is_no_image(dataset: Dataset) -> None:
    why = _NO_IMAGES.get(dataset.get("SOPClassUID", ""))
    if why is None and ("FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset):
        why = "holds a map of floating-point values, not an image"
    if why is None and "PixelData" not in dataset:
        why = "has no pixels, or is cut short before their end"
    if why is None and dataset.BitsAllocated not in (8, 16):
        why = f"has pixels of {dataset.BitsAllocated} bits, not 8 or 16"
    if why is None and dataset.SamplesPerPixel > 1 and dataset.BitsAllocated > 8:
        why = "has colours of 16 bits, not 8"
    _refuse(why)


def owner(dataset: Dataset, entry: Entry) -> str:
    """What images of one patient have in common, see `Decoded`."""
    patient = str(dataset.get("PatientID") or "").strip()
    study = str(dataset.get("StudyInstanceUID") or "").strip()
    if patient:
        return f"patient\0{patient}"
    return f"study\0{study}" if study else f"folder\0{pathlib.PurePosixPath(entry.name).parent}"


def _colour(dataset: Dataset, frames: np.ndarray) -> Iterator[Picture]:
    """Frames [N, H, W, 3] as uint8; palettes may have 16 bits, of which the upper 8 are kept."""
    for index, frame in enumerate(frames):
        if frame.dtype.itemsize > 1:
            frame = frame >> 8
        spacing = _spacing(dataset, index)
        affine = _affine(dataset, index, spacing)
        yield Picture(frame.astype(np.uint8), index, spacing=spacing, affine=affine)


def _grey(dataset: Dataset, frames: np.ndarray, windowed: bool) -> Iterator[Picture]:
    """Frames [N, H, W] through modality LUT and window, in float64; uint16 above 8 bits."""
    dtype = np.uint16 if dataset.BitsStored > 8 else np.uint8
    full = None
    for index, frame in enumerate(frames):
        header = display(dataset, index)
        values = apply_modality_lut(frame, header).astype(np.float64)
        if not np.isfinite(values).all():
            raise RefusedError("has values that are not finite once rescaled")
        shown = windowed_values(values, header)
        window = (np.nan, np.nan) if shown is None else shown[1:]
        if shown is None or not windowed:
            full = full or full_range(dataset, frames)
            shown = (between(values, *full), *full)
        unit, low, high = shown
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            unit, low, high = 1 - unit, high, low
        pixels = np.rint(unit * np.iinfo(dtype).max).astype(dtype)
        spacing = _spacing(dataset, index)
        yield Picture(
            pixels[..., None],
            frame=index,
            low=low,
            high=high,
            bits=dataset.BitsStored,
            minimum=float(values.min()),
            maximum=float(values.max()),
            spacing=spacing,
            window=window,
            affine=_affine(dataset, index, spacing),
        )


def _spacing(dataset: Dataset, index: int) -> tuple[float, float, float]:
    """Mm between slices, rows and columns; in projections that of the detector."""
    found = nearest(dataset, index, ("PixelMeasuresSequence",), _MEASURES)
    rows, columns = _lengths(found, ("PixelSpacing", "ImagerPixelSpacing"), 2)
    (across,) = _lengths(found, ("SpacingBetweenSlices", "SliceThickness"), 1)
    return across, rows, columns


def _lengths(found: Dataset, keywords: Sequence[str], count: int) -> list[float]:
    """The first of some elements that holds so many lengths in mm; NaN where none does."""
    for keyword in keywords:
        try:
            values = np.array(found.get(keyword), float).reshape(-1)
        except (TypeError, ValueError):  # an empty text
            continue
        if len(values) == count and np.isfinite(values).all() and (values > 0).all():
            return values.tolist()
    return [np.nan] * count


def _affine(dataset: Dataset, index: int, spacing: Sequence[float]) -> np.ndarray | None:
    """From (slice, row, column) of a frame to mm, as NIfTI has it; None where nothing tells."""
    found = nearest(dataset, index, PLACE_GROUPS, PLACE)
    try:
        position, direction = (np.array(found[name].value, float) for name in PLACE[:2])
    except (KeyError, TypeError, ValueError):
        return None
    if (position.shape, direction.shape) != ((3,), (6,)) or not np.isfinite(position).all():
        return None
    across, down = direction[:3], direction[3:]
    if not (is_frame(across, down) and np.isfinite(spacing).all()):
        return None
    between_slices, rows, columns = spacing
    normal = np.cross(across, down)
    affine = np.eye(4)
    affine[:3] = np.stack(
        [normal * between_slices, down * rows, across * columns, position], axis=1
    )
    return LPS_TO_RAS @ affine


def is_frame(across: np.ndarray, down: np.ndarray) -> bool:
    """Whether both are unit vectors at a right angle; with room for the digits of a header."""
    products = np.array([across @ across - 1, down @ down - 1, across @ down])
    return bool((np.abs(products) < 0.01).all())


def display(dataset: Dataset, index: int) -> Dataset:
    """The elements `_DISPLAY` that hold for a frame."""
    sequences = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
    return nearest(dataset, index, sequences, _DISPLAY)


def nearest(
    dataset: Dataset, index: int, sequences: tuple[str, ...], keywords: tuple[str, ...]
) -> Dataset:
    """Elements that hold for a frame: its own before shared before the file's."""
    found = Dataset()
    sources = [dataset]
    for groups, place in (
        (dataset.get("SharedFunctionalGroupsSequence"), 0),
        (dataset.get("PerFrameFunctionalGroupsSequence"), index),
    ):
        if groups and place < len(groups):
            for name in sequences:
                sources += list(groups[place].get(name) or ())[:1]
    for source in sources:
        for keyword in keywords:
            if keyword in source:
                found.add(source[keyword])
    return found


def windowed_values(values: np.ndarray, header: Dataset) -> tuple[np.ndarray, float, float] | None:
    """Values shown in [0, 1] by the first lookup table or window, and the ends of the window.

    DICOM PS3.3 C.11.2. None where there is no table or window, or one narrower than allowed.
    """
    if header.get("VOILUTSequence"):
        # Values between the steps of the table take the step below.
        table = apply_voi_lut(np.floor(values).astype(np.int64), header, index=0)
        depth = header.VOILUTSequence[0].LUTDescriptor[2]
        return table / (2.0**depth - 1), np.nan, np.nan
    centre, width = (_first(header.get(key)) for key in ("WindowCenter", "WindowWidth"))
    shape = header.get("VOILUTFunction") or "LINEAR"
    if centre is None or width is None or not np.isfinite([centre, width]).all():
        return None
    if width < (1 if shape == "LINEAR" else 1e-9):
        return None
    if shape == "SIGMOID":
        with np.errstate(over="ignore"):  # far below the window, where 1 / inf is right
            return 1 / (1 + np.exp(-4 * (values - centre) / width)), np.nan, np.nan
    if shape == "LINEAR":
        centre, width = centre - 0.5, width - 1
    low, high = centre - width / 2, centre + width / 2
    return between(values, low, high), low, high


def _first(value: object) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if value is None or value == "":
        return None
    first = value if isinstance(value, int | float | str) else next(iter(value), None)
    return None if first is None else float(first)


def between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 at `low` and below, 1 above `high`, linear between; a step if both are the same."""
    if low == high:
        return (values > low).astype(np.float64)
    return np.clip((values - low) / (high - low), 0, 1)


def full_range(dataset: Dataset, frames: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value of all frames after the modality LUT, padding aside.

    Without such a LUT, 8-bit images show the whole range of their bits: they are made for screens.
    """
    headers = [display(dataset, index) for index in range(len(frames))]
    rescaled = any("RescaleSlope" in x or "ModalityLUTSequence" in x for x in headers)
    if dataset.BitsStored <= 8 and not rescaled:
        low = -(2.0 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0.0
        return low, low + 2.0**dataset.BitsStored - 1
    shown = _unpadded(dataset, frames)
    values = [
        apply_modality_lut(frame[here], header)
        for frame, here, header in zip(frames, shown, headers, strict=True)
        if here.any()
    ]
    return float(min(x.min() for x in values)), float(max(x.max() for x in values))


def _unpadded(dataset: Dataset, frames: np.ndarray) -> np.ndarray:
    """Mask [N, H, W] of stored values that are no padding; all of them where nothing else is."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return np.ones(frames.shape, bool)
    low, high = sorted((first, dataset.get("PixelPaddingRangeLimit", first)))
    shown = (frames < low) | (frames > high)
    return shown if shown.any() else ~shown
