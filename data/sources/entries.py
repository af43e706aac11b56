"""The files or rows of a source, and what is known before they are read, in little memory."""

import abc
import bisect
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import pyarrow as pa

from data import tables
from data.sources.raw import Entry

PATH = "\0path"  # no table has such a column
_COLUMNS = ("split", "patient", "site")
_BLOCK = 1 << 12


class Entries(Sequence[Entry]):
    """Entries that are made when they are asked for: a million are not a million objects."""

    @abc.abstractmethod
    def some(self, start: int, stop: int) -> Iterator[Entry]:
        """Those from ``start`` to ``stop``, both within the length."""

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        rows = range(len(self))[index]
        if isinstance(rows, int):
            return next(self.some(rows, rows + 1))
        if rows.step != 1:
            return [self[row] for row in rows]
        return list(self.some(rows.start, max(rows.start, rows.stop)))

    def __iter__(self) -> Iterator[Entry]:
        for start in range(0, len(self), _BLOCK):
            yield from self.some(start, min(start + _BLOCK, len(self)))

    def splits(self) -> list[str]:
        """Different splits, in the order of the entries."""
        return list(dict.fromkeys(entry.split for entry in self))


class Rows(Entries):
    """Rows of arrays: the `count` of each part, made by its function of their number."""

    def __init__(self, parts: Sequence[tuple[int, Callable[[int], Entry]]]) -> None:
        """Take (count, function) of the parts, in their order."""
        self._makers = [make for _, make in parts]
        self._ends = list(itertools.accumulate(count for count, _ in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def some(self, start: int, stop: int) -> Iterator[Entry]:
        """See `Entries.some`."""
        for row in range(start, stop):
            part = bisect.bisect_right(self._ends, row)
            yield self._makers[part](row - (self._ends[part - 1] if part else 0))


def collect(
    root: str,
    rows: Iterable[Mapping[str, Any]],
    folder: pathlib.Path,
    further: Sequence[str] = (),
) -> "Files":
    """Take down files one after another.

    Args:
        root: folder of the source.
        rows: PATH, label, split and, where known, patient and site of every file; and `further`.
        folder: takes what is known, as a file.
        further: names of more columns.
    """
    schema = pa.schema(
        [(PATH, pa.string()), ("label", pa.int32())]
        + [(name, pa.string()) for name in (*_COLUMNS, *further)]
    )
    filled = (dict.fromkeys(_COLUMNS, "") | row for row in rows)
    return Files(root, tables.on_disk(folder / "files.arrow", schema, filled))


class Files(Entries):
    """Files below a folder."""

    def __init__(self, root: str, facts: pa.Table) -> None:
        """Take what is known of the files.

        Args:
            root: of the source.
            facts: PATH below it, label, split, patient, site, and further columns [N].
        """
        self._root, self._facts = root, facts
        known = (PATH, "label", *_COLUMNS)
        self._further = [name for name in facts.column_names if name not in known]

    def __len__(self) -> int:
        return len(self._facts)

    def splits(self) -> list[str]:
        """See `Entries.splits`."""
        return self._facts["split"].unique().to_pylist()

    def some(self, start: int, stop: int) -> Iterator[Entry]:
        """See `Entries.some`."""
        return self._entries(self._facts.slice(start, stop - start))

    def take(self, rows: Sequence[int]) -> list[Entry]:
        """Those of some rows."""
        return list(self._entries(self._facts.take(pa.array(rows, pa.int64()))))

    def _entries(self, facts: pa.Table) -> Iterator[Entry]:
        for row in facts.to_pylist():
            yield Entry(
                file=f"{self._root}/{row[PATH]}", name=row[PATH], label=row["label"],
                **{key: row[key] for key in _COLUMNS},
                columns={key: row[key] for key in self._further},
                mask=f"{self._root}/{row['mask']}" if row.get("mask") else "",
            )  # fmt: skip
