"""Columns of short texts in little memory: a million paths are not a million objects."""

import heapq
import itertools
import pathlib
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Rows that are NumPy or Python texts at a time.
_BLOCK = 1 << 14
# Texts that are sorted at a time, and that are read back at a time of each run that was.
_RUN, _PIECE = 1 << 15, 1 << 8


class Texts(Sequence[str]):
    """Texts [N] as UTF-8, which may lie on disk; a selection shares them with what it is taken of.

    NumPy takes it for an array of texts: it then becomes one, of 4 bytes per character of the
    longest text. `blocks` gives a part at a time.
    """

    def __init__(self, content: pa.LargeStringArray, rows: np.ndarray | None = None) -> None:
        """The texts at ``rows`` [N] of ``content``, all of them by default."""
        self._content, self._rows = content, rows

    def __len__(self) -> int:
        return len(self._content) if self._rows is None else len(self._rows)

    @property
    def shape(self) -> tuple[int]:
        """(N,), as of an array."""
        return (len(self),)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> "Texts": ...

    def __getitem__(self, index: int | slice | np.ndarray) -> "str | Texts":
        if isinstance(index, int | np.integer):
            row = range(len(self))[index] if self._rows is None else self._rows[index]
            return self._content[int(row)].as_py()
        rows = np.arange(len(self), dtype=np.int32) if self._rows is None else self._rows
        return Texts(self._content, rows[index])

    def __iter__(self) -> Iterator[str]:
        for block in self.arrow():
            yield from block.to_pylist()

    def tolist(self) -> list[str]:
        """All as Python texts."""
        return list(self)

    def arrow(self) -> Iterator[pa.LargeStringArray]:
        """A part after another."""
        for start in range(0, len(self), _BLOCK):
            if self._rows is None:
                yield self._content.slice(start, _BLOCK)
            else:
                yield self._content.take(pa.array(self._rows[start : start + _BLOCK]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # there is never a view
        longest = max((pc.max(pc.utf8_length(block)).as_py() for block in self.arrow()), default=1)
        texts = np.empty(len(self), f"U{max(longest, 1)}")
        for start, block in zip(range(0, len(self), _BLOCK), self.arrow(), strict=True):
            texts[start : start + _BLOCK] = block.to_pylist()
        return texts if dtype is None else texts.astype(dtype)


class Writer:
    """Puts a column on disk, part by part, in two files that begin with ``path``."""

    def __init__(self, path: pathlib.Path) -> None:
        """Begin both files."""
        self._paths = path, path.with_name(f"{path.name}.ends")
        for old in filter(pathlib.Path.exists, self._paths):
            old.unlink()  # it may be mapped still, so it is not written over
        self._content, self._ends = (path.open("wb") for path in self._paths)
        self._ends.write(np.int64(0).tobytes())
        self._count = self._bytes = 0

    def write(self, column: pa.ChunkedArray) -> None:
        """Append texts."""
        texts = pa.concat_arrays(column.cast(pa.large_string()).chunks) if len(column) else []
        if not len(texts):
            return
        _, ends, content = texts.buffers()
        here = np.frombuffer(ends, np.int64, len(texts) + 1, 8 * texts.offset)
        self._ends.write((here[1:] - here[0] + self._bytes).tobytes())
        if content is not None:
            self._content.write(memoryview(content)[here[0] : here[-1]])
        self._count, self._bytes = self._count + len(texts), self._bytes + int(here[-1] - here[0])

    def close(self) -> Texts:
        """The column, which is read when it is needed."""
        self._content.close()
        self._ends.close()
        path, ends = self._paths
        buffers = [None, _mapped(ends), _mapped(path) if self._bytes else pa.py_buffer(b"")]
        return Texts(pa.Array.from_buffers(pa.large_string(), self._count, buffers))


Column = Texts | np.ndarray


def column(path: pathlib.Path, found: pa.ChunkedArray) -> Texts:
    """Puts a whole column on disk, see `Writer`."""
    writer = Writer(path)
    for chunk in found.chunks:
        writer.write(pa.chunked_array([chunk]))
    return writer.close()


def blocks(column: Column) -> Iterator[np.ndarray]:
    """NumPy texts of a column, some thousand at a time."""
    for start in range(0, len(column), _BLOCK):
        yield np.asarray(column[start : start + _BLOCK], np.str_)


def numbers(column: Column) -> tuple[np.ndarray, int]:
    """The place of every text [N] among the sorted different ones, and how many these are."""
    chunks = column.arrow() if isinstance(column, Texts) else map(_arrow, blocks(column))
    encoded = pa.chunked_array(
        [chunk.dictionary_encode() for chunk in chunks],
        pa.dictionary(pa.int32(), pa.large_string()),
    ).unify_dictionaries()
    if not len(encoded):
        return np.zeros(0, np.int64), 0
    names = encoded.chunk(encoded.num_chunks - 1).dictionary
    order = pc.sort_indices(names).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    codes = (chunk.indices.to_numpy() for chunk in encoded.chunks)
    return rank[np.concatenate(list(codes))], len(order)


def repeated(column: Column) -> tuple[str, int] | None:
    """The text that comes most often, and how often; None where each comes once."""
    found = hashes(column)
    ordered = np.sort(found)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not twice.size:
        return None
    names, counts = np.unique(np.asarray(column[np.isin(found, twice)]), return_counts=True)
    # Different texts of one hash are no repetition.
    most = counts.argmax()
    return (str(names[most]), int(counts[most])) if counts[most] > 1 else None


def shared(one: Column, other: Column) -> np.ndarray:
    """Different texts [n] that both columns have, sorted."""
    mine, theirs = hashes(one), hashes(other)
    both = np.intersect1d(mine, theirs)
    if not both.size:
        return np.array([], np.str_)
    found = (np.asarray(x[np.isin(y, both)], np.str_) for x, y in ((one, mine), (other, theirs)))
    return np.intersect1d(*found)


def hashes(column: Column) -> np.ndarray:
    """Numbers [N], `hash` of every text: the same for the same one, in this process alone."""
    texts = (text for block in blocks(column) for text in block.tolist())
    return np.fromiter(map(hash, texts), np.int64, len(column))


class Lookup:
    """Finds the rows of a column that hold a text, with 16 bytes of memory for each row."""

    def __init__(self, column: Column) -> None:
        """Look at all texts of ``column`` once."""
        self._column, found = column, hashes(column)
        self._order = np.argsort(found, kind="stable")
        self._hashes = found[self._order]

    def rows(self, words: Sequence[str]) -> dict[str, list[int]]:
        """{text: its rows in order} of those of some texts that the column has."""
        wanted = hashes(np.array(words, np.str_))
        starts, ends = (np.searchsorted(self._hashes, wanted, side) for side in ("left", "right"))
        return {
            words[i]: rows
            for i in np.flatnonzero(starts < ends)
            if (rows := [row for row in self._order[starts[i] : ends[i]].tolist()
                         if self._column[row] == words[i]])
        }  # fmt: skip


def in_order(words: Iterable[str], key: Callable[[str], str] | None = None) -> Iterator[str]:
    """Texts sorted by themselves or by ``key``, all taken before the first is given.

    Where there are many they lie on disk meanwhile, as runs that are sorted each.
    """
    words = iter(words)
    run = sorted(itertools.islice(words, _RUN), key=key)
    if len(run) < _RUN:
        return iter(run)
    file, starts = tempfile.TemporaryFile(), []  # noqa: SIM115 (closed when all is read)
    while run:
        starts.append(file.tell())
        for first in range(0, len(run), _PIECE):
            pickle.dump(run[first : first + _PIECE], file)
        pickle.dump([], file)
        run = sorted(itertools.islice(words, _RUN), key=key)
    return _merged(file, starts, key)


def _merged(
    file: BinaryIO, starts: Sequence[int], key: Callable[[str], str] | None
) -> Iterator[str]:
    with file:
        yield from heapq.merge(*(_run(file, start) for start in starts), key=key)


def _run(file: BinaryIO, place: int) -> Iterator[str]:
    """The texts of a run, a piece at a time: the others are read in between."""
    file.seek(place)
    while piece := pickle.load(file):
        place = file.tell()
        yield from piece
        file.seek(place)


def _arrow(texts: np.ndarray) -> pa.LargeStringArray:
    return pa.array(texts.tolist(), pa.large_string())


def _mapped(path: pathlib.Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as file:
        return file.read_buffer()
