"""Small files written whole or not at all: parquet tables, JSON, and folders.

Every writer here works the same way: write beside the destination, fsync, rename. A reader
therefore sees the old content or the new one, never half of it, even after ``kill -9``.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import UserError, reason

PathLike = str | os.PathLike[str]

KEY = ".key"  # file of a folder that `resumable_dir` makes
_BLOCK = 1 << 12  # rows that are in memory at a time


def fsync(path: pathlib.Path) -> None:
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
        fsync(aside)
        os.replace(aside, path)
        fsync(path.parent)
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
    aside = path.with_name(f".{path.name}.partial")
    _remove(aside)  # left over from a killed run
    aside.mkdir()
    try:
        yield aside
        move_dir(aside, path)
    finally:
        _remove(aside)


def move_dir(aside: pathlib.Path, path: pathlib.Path) -> None:
    """Put the folder ``aside`` in the place of ``path`` once all of it is on disk."""
    old = _replaced(path)
    _remove(old)
    for entry in [*aside.rglob("*"), aside]:
        fsync(entry)
    try:
        if path.exists():
            os.replace(path, old)
        os.replace(aside, path)
        fsync(path.parent)
    finally:
        _remove(old)


def _replaced(path: pathlib.Path) -> pathlib.Path:
    """Where `move_dir` puts what it replaces."""
    return path.with_name(f".{path.name}.old")


def remove_replaced(path: pathlib.Path) -> None:
    """Delete what a `move_dir` to ``path`` that was killed in the end has left, if anything."""
    _remove(_replaced(path))


def write_json(path: PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinities are refused."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with atomic_file(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def json_sha256(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def unfinished(path: PathLike) -> pathlib.Path:
    """The folder in which `resumable_dir` makes ``path``."""
    path = pathlib.Path(path)
    return path.with_name(f".{path.name}.unfinished")


def has_key(folder: PathLike, key: str) -> bool:
    """Whether `resumable_dir` began ``folder``, or made it if it is in its place, with ``key``.

    What has no file ``.key`` was not, or it was removed.
    """
    mark = pathlib.Path(folder) / KEY
    return mark.exists() and read_json(mark) == key


@contextlib.contextmanager
def resumable_dir(path: PathLike, key: str) -> Iterator[pathlib.Path]:
    """Yield a folder to fill that outlives a kill; on a clean exit it becomes ``path``.

    After a kill or an exception the next call with the same ``key`` gets what is in the folder, any
    other call an empty one; so files in it must be written whole or not at all. A folder without
    content is deleted. The file ``.key`` goes along to ``path`` and says that all is there (see
    `has_key`); whoever notes that elsewhere removes it.
    """
    aside = unfinished(path)
    mark = aside / KEY
    if not has_key(aside, key):
        mark.unlink(missing_ok=True)  # first: half a folder must not pass for one of the old key
        _remove(aside)
        aside.mkdir(parents=True)
        write_json(mark, key)
    try:
        yield aside
        move_dir(aside, pathlib.Path(path))
    finally:
        if aside.exists() and list(aside.iterdir()) == [mark]:
            _remove(aside)


@dataclasses.dataclass(frozen=True)
class Joined:
    """One array of several .npz files, joined along the first axis without being in memory."""

    paths: Sequence[pathlib.Path]
    name: str

    def __iter__(self) -> Iterator[np.ndarray]:
        return (map_npz(path)[self.name] for path in self.paths)


def write_npz(path: PathLike, **arrays: np.ndarray | Joined) -> None:
    """Write named arrays as one .npz file, atomically."""
    with atomic_file(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name, array in arrays.items():
            parts = [np.asarray(array)] if not isinstance(array, Joined) else array
            shapes = [part.shape for part in parts]
            dtype = next(iter(parts)).dtype
            shape = (sum(s[0] for s in shapes), *shapes[0][1:]) if len(shapes) > 1 else shapes[0]
            header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for part in parts:
                    file.write(np.ascontiguousarray(part).tobytes())


def map_npz(path: PathLike) -> dict[str, np.ndarray]:
    """Arrays of an .npz file of `write_npz` as views of the file: what is not used is not read.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: not such a file.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for member in archive.infolist():
            file.seek(member.header_offset + 26)
            lengths = struct.unpack("<HH", file.read(4))  # of its name and further fields
            file.seek(sum(lengths), os.SEEK_CUR)
            if member.compress_type or np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{member.filename} was not written by this project")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
            if fortran or start + int(np.prod(shape)) * dtype.itemsize > os.path.getsize(path):
                raise ValueError(f"{member.filename} is cut short")
            empty = 0 in shape  # which cannot be mapped
            arrays[member.filename.removesuffix(".npy")] = (
                np.empty(shape, dtype) if empty else np.memmap(path, dtype, "r", start, shape)
            )
    return arrays


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


@contextlib.contextmanager
def parquet_writer(path: PathLike, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of row groups to one parquet file, atomically."""
    with atomic_file(path) as aside, pq.ParquetWriter(aside, schema) as writer:
        yield writer


def in_blocks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Items in lists of at most so many."""
    items = iter(items)
    while block := list(itertools.islice(items, size)):
        yield block


def on_disk(path: PathLike, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table that lies in a file, Arrow's own format, and is read when it is needed."""
    with (
        atomic_file(path) as aside,
        pa.OSFile(str(aside), "wb") as file,
        pa.ipc.new_file(file, schema) as writer,
    ):
        for block in in_blocks(rows, _BLOCK):
            writer.write_batch(pa.RecordBatch.from_pylist(block, schema))
    with pa.memory_map(os.fspath(path)) as file:
        return pa.ipc.open_file(file).read_all()


@contextlib.contextmanager
def _reading(path: PathLike) -> Iterator[None]:
    """Turn what goes wrong while a parquet file is read into a UserError."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the stage that writes it again.") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path} is damaged ({reason(error)}); run the stage that writes it again."
        ) from None


def read_table(path: PathLike, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file, or some columns of it, as an Arrow table.

    Raises:
        UserError: the file is missing or is not a whole parquet file.
    """
    with _reading(path):
        return pq.read_table(path, columns=None if columns is None else list(columns))


def read_batches(path: PathLike, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read some columns of a parquet file a row group at a time; raises as `read_table`."""
    with _reading(path), pq.ParquetFile(path) as file:
        yield from file.iter_batches(columns=list(columns))


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
