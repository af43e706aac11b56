"""One part of a source, read by one process: pixels in one file, what is known of them in another.

A part is a range of the source's files; which files belong together does not depend on who reads
them, so neither do the bytes. ``part-00012.bin`` holds the images one after another, each with its
own depth and channels and, where it has one, its mask behind it; ``part-00012.parquet`` has a row
per image and is written last: it says that the part is complete.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import pathlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data import checks, preprocess, tables
from data.errors import RefusedError, UserError
from data.folders import hindrance
from data.sources import labels
from data.sources.raw import Damaged, Decode, Decoded, Entry, Picture

# Longest reason kept for a file; decoders report a line per plug-in.
_REASON = 300
_SPACING = ("spacing_slice", "spacing_row", "spacing_column")
_WINDOW = ("window_low", "window_high")
# Columns of a table of labels that are kept; others might say who somebody is.
_SUBGROUP = ("sex", "age_band", "mask")
_PIXEL = ("pixel_slice", "pixel_row", "pixel_column")
FACTS = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int64()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("site", pa.string()),
        ("dtype", pa.string()),
        ("channels", pa.int64()),
        ("offset", pa.int64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("bits", pa.int64()),
        ("minimum", pa.float64()),
        ("maximum", pa.float64()),
        ("depth", pa.int64()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("spacing_slice", pa.float64()),
        ("spacing_row", pa.float64()),
        ("spacing_column", pa.float64()),
        ("window_low", pa.float64()),
        ("window_high", pa.float64()),
        ("pixel_slice", pa.float64()),
        ("pixel_row", pa.float64()),
        ("pixel_column", pa.float64()),
        ("affine", pa.string()),
        ("undo", pa.string()),
        ("sex", pa.string()),
        ("age_band", pa.string()),
        ("mask", pa.string()),
        ("slice_index", pa.float64()),
        ("masked", pa.bool_()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Work:
    """How every part of a source is read.

    Attributes:
        folder: where the parts are written.
        decode: reads one entry; `data.sources.raw.Listing` has it.
        where: path or name of the source, for messages.
        of_files: whether an entry that can't be read is listed instead of being an error.
        spatial: (H, W) of the images, or (D, H, W) of volumes, pixels.
        steps: what is done to each image.
        channels: of the images.
        salt: what patient identifiers are digested with.
    """

    folder: pathlib.Path
    decode: Decode
    where: str
    of_files: bool
    spatial: tuple[int, ...]
    steps: Sequence[preprocess.Step]
    channels: int
    salt: str


@dataclasses.dataclass(frozen=True)
class Part:
    """Entries that are read together; `index` is the part's number."""

    work: Work
    index: int
    entries: Sequence[Entry]


def facts_path(folder: pathlib.Path, index: int) -> pathlib.Path:
    """The table of part `index`; it is there when the part is complete."""
    return folder / f"part-{index:05d}.parquet"


def pixels_path(folder: pathlib.Path, index: int) -> pathlib.Path:
    """The images of part `index`."""
    return folder / f"part-{index:05d}.bin"


def read_part(part: Part) -> int:
    """Read a part's entries and write both of its files; returns the number of entries.

    Raises:
        UserError: what is wrong with the source as a whole, such as its number of channels.
    """
    work = part.work
    rows: list[dict[str, Any]] = []
    told = {"files": 0, "unreadable": {}, "blank": 0, "more_volumes": 0, "sites": Counter()}
    pixels = pixels_path(work.folder, part.index)
    with quiet(), tables.atomic_file(pixels) as aside, aside.open("wb") as file:
        for entry in part.entries:
            _read_entry(work, entry, file, rows, told)
    metadata = {"told": json.dumps(told).encode()}
    table = pa.Table.from_pylist(rows, FACTS).replace_schema_metadata(metadata)
    with tables.atomic_file(facts_path(work.folder, part.index)) as aside:
        pq.write_table(table, aside)
    return len(part.entries)


def told(table: pa.Table) -> dict[str, Any]:
    """What the table of a part tells about its files, as `Report` names it."""
    return json.loads(table.schema.metadata[b"told"])


def _read_entry(
    work: Work, entry: Entry, file: BinaryIO, rows: list[dict[str, Any]], told: dict[str, Any]
) -> None:
    """Append an entry's images to the file and their rows, or the reason why there are none.

    Where a file is damaged in some of its images only, the others count, and each as a file.
    """
    told["files"] += 1
    if work.of_files:
        entry = labels.marked(entry, pathlib.Path(work.where))
    start, before, blank = file.tell(), len(rows), 0
    damaged: dict[str, str] = {}
    try:
        found = work.decode(entry)
        known = found.entry or entry
        for picture in found.pictures:
            if isinstance(picture, Damaged):
                damaged[image_id(entry, picture.frame)] = picture.why
                continue
            row = _row(known, found, picture, work, file)
            blank += row is None
            rows += [row] if row else []
    except UserError:
        raise
    except Exception as error:  # decoders fail in many ways, none of them ours
        if not work.of_files:
            raise
        told["unreadable"][entry.name] = why(error, entry)
        file.seek(start)
        file.truncate()
        del rows[before:]
        return
    if damaged:
        told["unreadable"] |= damaged
        told["files"] += len(damaged) + len(rows) - before + blank - 1
    told["blank"] += found.blank + blank
    told["more_volumes"] += found.more_volumes
    if entry.site:
        told["sites"][entry.site] += 1


def why(error: Exception, entry: Entry) -> str:
    """Why a file can't be read, to be put after its name."""
    if (hindered := hindrance(entry.file)) is not None:
        return hindered
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, MemoryError):  # promised by a damaged header: others may well be read
        return "needs more memory than there is"
    text = str(error).replace(entry.file, pathlib.PurePath(entry.file).name)
    text = " ".join(text.split()) or type(error).__name__
    return f"can't be decoded ({text[:_REASON].rstrip('.')})"


def _row(
    entry: Entry, found: Decoded, picture: Picture, work: Work, file: BinaryIO
) -> dict[str, Any] | None:
    """Bring an image to its size, append it to the file, and say what is known of it.

    None for an image that a step leaves out.
    """
    name = image_id(entry, picture.frame)
    where, pixels = f"{work.where} ({entry.split})", picture.pixels
    _check(where, name, pixels, work.channels)
    done = preprocess.apply(
        work.steps,
        preprocess.Image(
            pixels,
            picture.low,
            picture.high,
            pixels.dtype,
            picture.spacing[-len(work.spatial) :],
            picture.window,
            picture.affine,
            picture.mask,
        ),
    )
    if done is None:
        return None
    image, undo = done
    if image.values.shape[:-1] != work.spatial:
        raise UserError(
            f"{where}: image '{name}' has {image.values.shape[:-1]} pixels after all steps of "
            "--config.data.preprocess; put no step after 'resize' that changes the size."
        )
    # Values whose range is not known yet, see `preprocess.of_dataset`.
    stored = image.values.astype(np.float32) if image.in_units else image.values
    lowest, highest = (
        (float(pixels.min()), float(pixels.max()))
        if np.isnan(picture.minimum)
        else (picture.minimum, picture.maximum)
    )
    row = {
        "id": name,
        "label": entry.label,
        "split": entry.split,
        "group": group(entry, found, work.salt),
        "site": entry.site,
        "dtype": image.dtype.name,
        "channels": stored.shape[-1],
        "offset": file.tell(),
        "low": float(image.low),
        "high": float(image.high),
        "bits": picture.bits or 8 * pixels.dtype.itemsize,
        "minimum": lowest,
        "maximum": highest,
        "depth": pixels.shape[0] if len(work.spatial) == 3 else 1,
        "height": pixels.shape[-3],
        "width": pixels.shape[-2],
        **dict(zip(_SPACING, map(float, picture.spacing), strict=True)),
        **dict(zip(_WINDOW, map(float, picture.window), strict=True)),
        **dict(zip(_PIXEL, _pixel(picture, image), strict=True)),
        "affine": "" if image.affine is None else json.dumps(image.affine[:3].tolist()),
        "undo": undo,
        **{name: entry.columns.get(name, "") for name in _SUBGROUP},
        "slice_index": _slice(where, name, entry, image.affine if len(work.spatial) == 2 else None),
        "masked": image.mask is not None,
    }
    file.write(np.ascontiguousarray(stored).data)
    if image.mask is not None:
        file.write(np.ascontiguousarray(image.mask).data)
    return row


def _slice(where: str, name: str, entry: Entry, affine: np.ndarray | None) -> float:
    """Where a slice lies in its volume, NaN where nothing tells.

    That is the number that its row gives, or else mm across the slice, from its affine.
    """
    text = entry.columns.get("slice_index", "")
    if text:
        try:
            return float(text)
        except ValueError:
            raise UserError(
                f"{where}: image '{name}' has slice_index '{text}', which is no number; mend it."
            ) from None
    across = np.zeros(3) if affine is None else affine[:3, 0]
    length = np.linalg.norm(across)
    if length == 0:
        return np.nan
    # To the right, front or top, whatever way the slices were counted.
    upwards = np.sign(across[np.argmax(np.abs(across))]) / length
    return float(affine[:3, 3] @ across * upwards)


def _pixel(picture: Picture, image: preprocess.Image) -> list[float]:
    """Mm between slices, rows and columns of the record; the steps left slices of images alone."""
    spacing = [*picture.spacing[: 3 - len(image.spacing)], *image.spacing]
    return [float(x) for x in spacing]


def _check(where: str, name: str, pixels: np.ndarray, channels: int) -> None:
    """Refuse pixels of which no record can be made."""
    checks.check_dtype(where, pixels.dtype)
    found = pixels.shape[-1]
    if found != channels and {found, channels} != {1, 3}:
        raise UserError(
            f"{where} has images of {found} channels, --config.data.channels={channels} can't "
            f"be made of them; set it to {found}."
        )
    if pixels.dtype == np.float32:
        checks.check_floats(where, pixels[None], np.array([name]))


def image_id(entry: Entry, frame: int | None) -> str:
    """The id of an image: the path of its file, and its number in a file of several."""
    return entry.name if frame is None else f"{entry.name}#{frame}"


def group(entry: Entry, found: Decoded, salt: str) -> str:
    """16 hexadecimal digits that stay the same for one owner and salt; as it is given in a row.

    '' where nobody is known.
    """
    owner = f"patient\0{entry.patient}" if entry.patient else found.owner
    return hashlib.sha256(f"{salt}\0{owner}".encode()).hexdigest()[:16] if owner else entry.group


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings and logs of decoders: they quote headers, which may tell who a patient is.

    What matters of them comes back as the reason of a file. Both switches hold for all threads.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
