"""A table of labels: which rows count for which file, in little memory for a million of them."""

import csv
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data import tables, texts
from data.errors import UserError, reason

_KNOWN = ("label", "patient", "site", "split", "mask")
_BLOCK = 1 << 12


class LabelTable:
    """All rows of a table.

    Attributes:
        files: what the rows name [N], with '/' between the parts.
        masks: likewise what they name as masks, '' where they name none.
        further: columns besides those that `docs/data.md` explains.
    """

    def __init__(self, path: pathlib.Path, folder: pathlib.Path) -> None:
        """Read a CSV or Parquet file.

        Args:
            path: of the table.
            folder: takes its rows, from which they are read one by one.

        Raises:
            UserError: as `read_rows`.
        """
        rows = read_rows(path, ("file", "label"))
        first = next(rows)
        self.further = [name for name in first if name not in ("file", *_KNOWN)]
        columns = ("file", *_KNOWN, *self.further)
        schema = pa.schema([(name, pa.string()) for name in columns])
        filled = (
            dict.fromkeys(_KNOWN, "") | row
            | {name: normal(row[name]) for name in ("file", "mask") if row.get(name)}
            for row in itertools.chain([first], rows)
        )  # fmt: skip
        self._facts = tables.on_disk(folder / "labels.arrow", schema, filled)
        self.files, self.masks = (
            texts.column(folder / f"labels-{name}.text", self._facts[name])
            for name in ("file", "mask")
        )
        self._lookup = texts.Lookup(self.files)

    def values(self, column: str) -> list[str]:
        """Different values of a column, without ''."""
        return [value for value in self._facts[column].unique().to_pylist() if value]

    def matches(self, names: Sequence[str]) -> list[dict[int, dict[str, str]]]:
        """Rows that count for each of some files by their number, the most specific first."""
        beginnings = [list(prefixes(name)) for name in names]
        found = self._lookup.rows([prefix for some in beginnings for prefix in some])
        numbers = sorted({row for some in found.values() for row in some})
        rows = self._facts.take(pa.array(numbers, pa.int64())).to_pylist()
        facts = dict(zip(numbers, rows, strict=True))
        return [
            {row: facts[row] for prefix in some for row in found.get(prefix, ())}
            for some in beginnings
        ]


def read_rows(table: pathlib.Path, needed: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Rows {column: text} of a CSV or Parquet table with the columns ``needed``, file among them.

    A value that isn't there is ''.

    Raises:
        UserError: no such table, no rows, a column that isn't there, or a row without a file.
    """
    if not table.is_file():
        raise UserError(f"{table} does not exist; mend the path.")
    number = 0
    try:
        raw = _of_parquet(table) if table.suffix == ".parquet" else _of_csv(table)
        columns = next(raw)
        for name in needed:
            if name not in columns:
                raise UserError(
                    f"{table} has no column '{name}' (it has {', '.join(map(str, columns))}); "
                    "add it."
                )
        for number, row in enumerate(raw, 1):
            filled = {key: _text(row.get(key)) for key in columns}
            if not filled["file"]:
                raise UserError(f"{table}: row {number} names no file; give its path or remove it.")
            yield filled
    except (pa.ArrowInvalid, OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{table} is no readable table ({reason(error)}); save it as CSV in UTF-8 or as "
            "Parquet."
        ) from None
    if number == 0:
        raise UserError(f"{table} has no rows; add one for each image.")


def _of_parquet(table: pathlib.Path) -> Iterator[Any]:
    """Names of the columns, then the rows."""
    # Read as a file: a folder named patient=… must not become a column.
    with pq.ParquetFile(table) as file:
        yield file.schema_arrow.names
        for batch in file.iter_batches(_BLOCK):
            yield from batch.to_pylist()


def _of_csv(table: pathlib.Path) -> Iterator[Any]:
    """Names of the columns, then the rows."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        yield list(reader.fieldnames or ())
        yield from reader


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def normal(path: str) -> str:
    """A path as it is compared."""
    return pathlib.PurePosixPath(path.replace("\\", "/")).as_posix()


def prefixes(name: str) -> Iterator[str]:
    """The name and all its beginnings that end at the edge of a word, longest first.

    So a row for 'scan1' counts for 'scan1.nii.gz', 'scan1_flair.nii' and 'scan1/0001.dcm', but not
    for 'scan10.nii.gz'.
    """
    yield name
    for end in range(len(name) - 1, 0, -1):
        if not (name[end - 1].isalnum() and name[end].isalnum()):
            yield name[:end]
