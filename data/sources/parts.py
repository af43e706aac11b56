"""One part of a source, read by one process: pixels in one file, what is known of them in another.

A part is a range of the source's files; which files belong together does not depend on who reads
them, so neither do the bytes. ``part-00012.bin`` holds the images one after another, each with its
own depth and channels; ``part-00012.parquet`` has a row per image and is written last: it says that
the part is complete.
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

from data import checks, tables
from data import images as image_files
from data.errors import UserError
from data.sources.raw import Decode, Decoded, Entry, Picture, RefusedError

# Longest reason kept for a file; decoders report a line per plug-in.
_REASON = 300
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
        size: height and width of the images, pixels.
        channels: of the images.
        salt: what patient identifiers are digested with.
    """

    folder: pathlib.Path
    decode: Decode
    where: str
    of_files: bool
    size: int
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
    with _quiet(), tables.atomic_file(pixels) as aside, aside.open("wb") as file:
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
    """Append an entry's images to the file and their rows; all of them, or none and the reason."""
    told["files"] += 1
    start, before = file.tell(), len(rows)
    try:
        found = work.decode(entry)
        known = found.entry or entry
        for picture in found.pictures:
            rows.append(_row(known, found, picture, work, file))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # decoders fail in many ways, none of them ours
        if not work.of_files:
            raise
        told["unreadable"][entry.name] = _why(error)
        file.seek(start)
        file.truncate()
        del rows[before:]
        return
    told["blank"] += found.blank
    told["more_volumes"] += found.more_volumes
    if entry.site:
        told["sites"][entry.site] += 1


def _why(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return str(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return f"can't be decoded ({text[:_REASON].rstrip('.')})"


def _row(
    entry: Entry, found: Decoded, picture: Picture, work: Work, file: BinaryIO
) -> dict[str, Any]:
    """Bring an image to its size, append it to the file, and say what is known of it."""
    name = entry.name if picture.frame is None else f"{entry.name}#{picture.frame}"
    where = f"{work.where} ({entry.split})"
    pixels = _sized(picture.pixels, work, where)
    if pixels.dtype == np.float32:
        checks.check_floats(where, pixels[None], np.array([name]))
    owner = f"patient\0{entry.patient}" if entry.patient else found.owner
    row = {
        "id": name,
        "label": entry.label,
        "split": entry.split,
        "group": pseudonym(owner, work.salt) if owner else entry.group,
        "site": entry.site,
        "dtype": pixels.dtype.name,
        "channels": pixels.shape[-1],
        "offset": file.tell(),
        "low": float(picture.low),
        "high": float(picture.high),
    }
    file.write(np.ascontiguousarray(pixels).data)
    return row


def _sized(pixels: np.ndarray, work: Work, where: str) -> np.ndarray:
    """Pixels [size, size, C] of which the source's depth and channels can be made."""
    checks.check_dtype(where, pixels.dtype)
    found, channels = pixels.shape[-1], work.channels
    if found != channels and {found, channels} != {1, 3}:
        raise UserError(
            f"{where} has images of {found} channels, --config.data.channels={channels} can't "
            f"be made of them; set it to {found}."
        )
    return image_files.resize(pixels, work.size)


def pseudonym(owner: str, salt: str) -> str:
    """16 hexadecimal digits that stay the same for one owner and salt."""
    return hashlib.sha256(f"{salt}\0{owner}".encode()).hexdigest()[:16]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
