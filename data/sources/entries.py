"""The files of a source and what is known of them before they are read, in little memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import pyarrow as pa

from data import texts
from data.sources.label_table import in_blocks
from data.sources.raw import Entry

PATH = "\0path"  # no table has such a column
_COLUMNS = ("split", "patient", "site")
_BLOCK = 1 << 12


def collect(root: str, rows: Iterable[Mapping[str, Any]], further: Sequence[str] = ()) -> "Files":
    """Take down files one after another.

    Args:
        root: folder of the source.
        rows: PATH, label, split and, where known, patient and site of every file; and `further`.
        further: names of more columns.
    """
    text = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [(PATH, pa.large_string()), ("label", pa.int32())]
        + [(name, text) for name in (*_COLUMNS, *further)]
    )
    blocks = [schema.empty_table()]
    for block in in_blocks(rows, _BLOCK):
        filled = [dict.fromkeys(_COLUMNS, "") | row for row in block]
        blocks.append(pa.Table.from_pylist(filled, schema))
    facts = pa.concat_tables(blocks).unify_dictionaries()
    names = pa.concat_arrays(facts[PATH].chunks)
    return Files(root, texts.Texts(names), facts.drop_columns(PATH))


class Files(Sequence[Entry]):
    """Files below a folder; each `Entry` is made when it is asked for."""

    def __init__(self, root: str, names: texts.Texts, facts: pa.Table) -> None:
        """Take the columns apart from the rows.

        Args:
            root: of the source.
            names: paths [N] below it.
            facts: label, split, patient, site, and further columns [N].
        """
        self._root, self._names, self._facts = root, names, facts
        self._further = [name for name in facts.column_names if name not in ("label", *_COLUMNS)]

    def __len__(self) -> int:
        return len(self._names)

    def splits(self) -> list[str]:
        """Different splits, in the order of the files."""
        return self._facts["split"].unique().to_pylist()

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return list(self._some(start, stop))[::step]
        start = range(len(self))[index]
        return next(self._some(start, start + 1))

    def __iter__(self) -> Iterator[Entry]:
        for start in range(0, len(self), _BLOCK):
            yield from self._some(start, min(start + _BLOCK, len(self)))

    def _some(self, start: int, stop: int) -> Iterator[Entry]:
        rows = self._facts.slice(start, max(stop - start, 0)).to_pylist()
        for name, row in zip(self._names[start:stop], rows, strict=True):
            yield Entry(
                file=f"{self._root}/{name}", name=name, label=row["label"],
                **{key: row[key] for key in _COLUMNS},
                columns={key: row[key] for key in self._further},
            )  # fmt: skip
