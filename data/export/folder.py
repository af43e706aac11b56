"""A set of images as a folder of files, with a table of labels and export.json about all of it.

The folder grows hidden and appears when it is complete; a killed run goes on with the files that
are missing, to the same bytes.
"""

import csv
import pathlib
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from data import marks, tables
from data.errors import UserError
from data.export import dicom, nifti, npy, png
from data.export.about import About
from data.records import Records

FORMATS: dict[str, types.ModuleType] = {"png": png, "npy": npy, "nifti": nifti, "dicom": dicom}
_CHUNK = 256  # files that a killed run loses at most
_DONE, TABLE = ".done", "labels.csv"


def write(
    folder: pathlib.Path,
    parts: Sequence[tuple[Records, np.ndarray, Callable[[int], tuple[pathlib.PurePath, About]]]],
    *,
    kind: str,
    bits: int,
    facts: dict[str, Any],
    overwrite: bool = False,
    done: Callable[[int], Any] = lambda count: None,
    flag: str = "--to",
) -> bool:
    """Write all images.

    Args:
        folder: made; it may be there if it is an export, of the same images or to be overwritten.
        parts: records, the rows of them that are written, and what gives the place of a row's file
            below the folder (without suffix) and what it says.
        kind: one of `FORMATS`.
        bits: 8 or 16, for formats that quantise.
        facts: for export.json; with `kind` and `bits` they tell this export from any other.
        overwrite: replace another export.
        done: called with the number of files after every few.
        flag: that gives the folder, named where it holds something else.

    Returns:
        False if the folder was complete already.

    Raises:
        UserError: the folder holds something else, or the format can't hold such images.
    """
    for records, _, _ in parts:
        FORMATS[kind].check(records.image_shape, bits)
    said = {**facts, "format": kind, "bits": bits}
    said["images"] = sum(len(rows) for _, rows, _ in parts)
    key = tables.json_sha256(said)
    if folder.exists():
        found = folder / marks.EXPORT
        if not found.is_file():
            raise UserError(f"{folder} holds something else; give another folder with {flag}.")
        if tables.read_json(found).get("key") == key:
            (folder / ".key").unlink(missing_ok=True)
            return False
        if not overwrite:
            raise UserError(
                f"{folder} holds another export; give another folder with {flag}, or pass "
                "--overwrite."
            )
    with tables.resumable_dir(folder, key) as aside:
        _write_files(aside, parts, kind, bits, done)
        _write_table(aside, parts, kind)
        tables.write_json(aside / marks.EXPORT, {**said, "key": key})
        (aside / _DONE).unlink(missing_ok=True)
    (folder / ".key").unlink(missing_ok=True)
    return True


def _write_files(aside: pathlib.Path, parts: Any, kind: str, bits: int, done: Any) -> None:
    writer, start = FORMATS[kind], 0
    finished = tables.read_json(aside / _DONE) if (aside / _DONE).exists() else 0
    for records, rows, place in parts:
        for low in range(0, len(rows), _CHUNK):
            chunk = rows[low : low + _CHUNK]
            start += len(chunk)
            if start > finished:
                written = []
                for row, image in zip(chunk, records.read_raw(chunk), strict=True):
                    where, about = place(int(row))
                    path = aside / f"{where}{writer.SUFFIX}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    writer.write(path, image, about, bits)
                    written.append(path)
                for path in written:
                    tables.fsync(path)
                tables.write_json(aside / _DONE, start)
            done(len(chunk))


def _write_table(aside: pathlib.Path, parts: Any, kind: str) -> None:
    """labels.csv, which `--config.data.labels` takes."""
    with (
        tables.atomic_file(aside / TABLE) as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("file", "label", "patient", "synthetic"))
        for where, about in _places(parts):
            name = f"{where.as_posix()}{FORMATS[kind].SUFFIX}"
            mark = "yes" if about.synthetic else ""
            writer.writerow((name, about.class_name, about.owner, mark))


def _places(parts: Any) -> Iterator[tuple[pathlib.PurePath, About]]:
    for _, rows, place in parts:
        for row in rows:
            yield place(int(row))
