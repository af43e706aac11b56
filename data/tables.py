"""Small files written whole or not at all: parquet tables, JSON, and folders.

Every writer here works the same way: write beside the destination, fsync, rename. A reader
therefore sees the old content or the new one, never half of it, even after ``kill -9``.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import UserError, reason

PathLike = str | os.PathLike[str]


def _fsync(path: pathlib.Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: pathlib.Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[pathlib.Path]:
    """Yield a path to write; on a clean exit the file becomes ``path``, otherwise it is deleted."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    _remove(aside)  # left over from a killed run
    try:
        yield aside
        _fsync(aside)
        os.replace(aside, path)
        _fsync(path.parent)
    finally:
        _remove(aside)


@contextlib.contextmanager
def atomic_dir(path: PathLike) -> Iterator[pathlib.Path]:
    """Yield an empty folder to fill; on a clean exit it becomes ``path``, replacing what was there.

    On an exception the folder is deleted and ``path`` stays as it was. Folders can't be swapped in
    one step portably, so replacing goes through a hidden name; a run killed between the two renames
    leaves no ``path``, and the stage that makes it runs again.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    _remove(aside)
    _remove(old)
    aside.mkdir()
    try:
        yield aside
        for entry in [*aside.rglob("*"), aside]:
            _fsync(entry)
        if path.exists():
            os.replace(path, old)
        os.replace(aside, path)
        _fsync(path.parent)
    finally:
        _remove(aside)
        _remove(old)


def write_json(path: PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinities are refused."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with atomic_file(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def write_npz(path: PathLike, **arrays: np.ndarray) -> None:
    """Write named arrays as one .npz file, atomically."""
    with atomic_file(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def read_json(path: PathLike) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the stage that writes it again.") from None
    except ValueError as error:  # JSON and UTF-8 errors alike
        raise UserError(
            f"{path} is damaged ({error}); run the stage that writes it again."
        ) from None


def write_parquet(path: PathLike, columns: Mapping[str, Any]) -> None:
    """Write equally long columns (arrays or lists) as one parquet table, atomically."""
    table = pa.table({name: pa.array(np.asarray(column)) for name, column in columns.items()})
    with atomic_file(path) as aside:
        pq.write_table(table, aside)


def read_table(path: PathLike) -> pa.Table:
    """Read a parquet file as an Arrow table.

    Raises:
        UserError: the file is missing or is not a whole parquet file.
    """
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the stage that writes it again.") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path} is damaged ({reason(error)}); run the stage that writes it again."
        ) from None


def read_parquet(path: PathLike) -> dict[str, np.ndarray]:
    """Read a parquet file as ``{column: array [N]}``; text columns become NumPy strings.

    Raises:
        UserError: the file is missing or is not a whole parquet file.
    """
    columns = {}
    for name, column in zip((table := read_table(path)).column_names, table.columns, strict=True):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            columns[name] = np.array(column.to_pylist(), dtype=np.str_)
        else:
            columns[name] = column.to_numpy()
    return columns


def file_sha256(path: PathLike) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
