"""The parts of a source as one set of images, which stay on disk."""

import functools
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data import checks, tables, texts
from data import images as image_files
from data.errors import UserError
from data.preprocess.image import to_pixels
from data.records import Columns, StoredRecords
from data.sources import parts
from data.sources.raw import Listing, Report

_TEXTS = ("id", "group", "site")
_NUMBERS = {
    "part": np.int32, "split": np.int8, "dtype": np.int8, "label": np.int64, "channels": np.int32,
    "offset": np.int64, "masked": np.int8,
}  # fmt: skip
_ENDS = {"low": np.float64, "high": np.float64}
# What `write_originals` keeps of every image.
_ORIGINALS = (
    "id", "low", "high", "bits", "minimum", "maximum", "depth", "height", "width", "channels",
    "spacing_slice", "spacing_row", "spacing_column", "window_low", "window_high", "site",
    "pixel_slice", "pixel_row", "pixel_column", "affine", "undo", "sex", "age_band", "mask",
    "slice_index",
)  # fmt: skip
_OPEN = 16  # parts that are mapped at a time
_GROUP = 1 << 13  # rows of a group in Parquet, whose writer keeps about 40 kB of each
# Kinds of file that come in 8 and in 16 bits; 65535 = 255 * 257, so every 8-bit value keeps its
# place among those of 16 bits.
_MIXED, _WIDEN = ("dicom", "nifti"), np.uint16(257)


class Spool:
    """Images of all parts in a folder, one row after another in the order of the source's files.

    It has what `data.records.StoredRecords` reads from.

    Attributes:
        image_shape: (H, W, C), or (D, H, W, C) of volumes.
        dtype: storage type of the pixels.
        class_names: names in label order.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        count: int,
        image_shape: tuple[int, ...],
        listing: Listing,
        *,
        ranged: bool,
    ) -> None:
        """Read what is known of the images of `count` parts; their pixels are read when needed.

        Args:
            folder: of the parts.
            count: of the parts.
            image_shape: (H, W, C), or (D, H, W, C) of volumes.
            listing: of the source.
            ranged: whether the parts hold float32 values in units, of which those of all images
                give the range of the pixels.

        Raises:
            UserError: several bit depths in a source that should have one.
        """
        self._folder, self._count, self._where = folder, count, listing.where
        self.image_shape, self.class_names = image_shape, tuple(map(str, listing.class_names))
        columns = _Columns(folder, _NUMBERS | _ENDS if ranged else _NUMBERS)
        for table in self._tables(columns.names):
            columns.add(table)
        numbers = columns.numbers()
        self._texts, self._splits = columns.texts(), columns.splits
        self.dtype = _common_dtype(columns.dtypes, listing)
        self._narrow = np.array([name != self.dtype.name for name in columns.dtypes])
        self._part, self._split, self._kind = (numbers[name] for name in ("part", "split", "dtype"))
        self._offset, self._channels = numbers["offset"], numbers["channels"]
        self._labels, self._masked = numbers["label"], numbers["masked"]
        self._range: tuple[float, float] | None = None
        if ranged and len(self._labels):
            low, high = numbers["low"], numbers["high"]
            self._inverted, self._values = (
                low > high,
                (np.minimum(low, high), np.maximum(low, high)),
            )
            self._set_range(slice(None))
        self._map = functools.lru_cache(_OPEN)(self._mapped)

    def _set_range(self, rows: slice | np.ndarray) -> None:
        lowest, highest = self._values
        self._range = float(lowest[rows].min()), float(highest[rows].max())

    def range_of(self, chosen: StoredRecords) -> None:
        """Where all images have one range, take that of some; other values are clipped to it.

        Test images must not tell what black and white are, so a study gives those of training.
        """
        if self._range is not None:
            self._set_range(chosen.order)

    def report(self) -> Report:
        """What there is to tell about the files."""
        return Report.joined(parts.told(table) for table in self._tables(()))

    def records(self, splits: Iterable[str]) -> dict[str, StoredRecords]:
        """The images of each split.

        Raises:
            UserError: a split without images, or labels and ids that don't fit.
        """
        return {split: self._records(split) for split in splits}

    def read_images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images [n, H, W, C] in the storage dtype, of rows [n]."""
        images = np.empty((len(indices), *self.image_shape), self.dtype)
        for image, row in zip(images, np.asarray(indices), strict=True):
            pixels = self._pixels(int(row))
            image[...] = image_files.set_channels(pixels, image.shape[-1])
        return images

    def masks(self, records: StoredRecords) -> StoredRecords | None:
        """Masks of those of some images that have one, as images [.., 1] uint8 of the same ids."""
        rows = np.flatnonzero(self._masked[records.order])
        return records.subset(rows).stored_in(_Masks(self)) if len(rows) else None

    def read_mask(self, row: int) -> np.ndarray:
        """The mask [H, W] uint8 of an image that has one."""
        dtype, shape = self._layout(row)
        start = self._offset[row] + int(np.prod(shape)) * dtype.itemsize
        there = self._map(int(self._part[row]))[start : start + int(np.prod(shape[:-1]))]
        return there.reshape(shape[:-1])

    def _layout(self, row: int) -> tuple[np.dtype, tuple[int, ...]]:
        """Type and shape [H, W, its own C] of an image as it lies in its part."""
        narrow = self._narrow[self._kind[row]]
        dtype = np.dtype(np.float32 if self._range else np.uint8 if narrow else self.dtype)
        return dtype, (*self.image_shape[:-1], int(self._channels[row]))

    def _pixels(self, row: int) -> np.ndarray:
        """One image [H, W, its own C] in the storage dtype."""
        stored, shape = self._layout(row)
        start, length = self._offset[row], int(np.prod(shape)) * stored.itemsize
        there = self._map(int(self._part[row]))[start : start + length]
        pixels = there.view(stored).reshape(shape)
        if self._range:
            return to_pixels(pixels.astype(np.float64), *self._ends(row), self.dtype)
        return pixels * _WIDEN if stored != self.dtype else pixels

    def _ends(self, row: int) -> tuple[float, float]:
        """What black and white stand for in an image, where all have the same range."""
        low, high = self._range
        return (high, low) if self._inverted[row] else (low, high)

    def write_originals(self, path: pathlib.Path) -> None:
        """Write what the source knew of every image as a table, in the order of the source."""
        schema = pa.schema([parts.FACTS.field(name) for name in _ORIGINALS])
        with tables.parquet_writer(path, schema) as writer:
            first = 0
            for table in _joined(self._tables(), _GROUP):
                rows = range(first, first + len(table))
                first += len(table)
                if self._range:
                    ends = np.array([self._ends(row) for row in rows]).reshape(-1, 2)
                    for place, name in enumerate(("low", "high")):
                        where = table.schema.get_field_index(name)
                        table = table.set_column(where, name, pa.array(ends[:, place]))
                writer.write_table(table.select(_ORIGINALS).cast(schema))

    def _tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        for index in range(self._count):
            yield tables.read_table(parts.facts_path(self._folder, index), columns)

    def _records(self, split: str) -> StoredRecords:
        where = f"{self._where} ({split})"
        here = np.flatnonzero(self._split == self._splits.get(split, -1)).astype(np.int32)
        if len(here) == 0:
            raise UserError(f"{where} holds no images.")
        whole = len(here) == len(self._split)
        labels, ids, groups, sites = (
            x if whole else x[here] for x in (self._labels, *self._texts.values())
        )
        known = groups if any(groups) else None
        checks.check_columns(where, len(here), labels, ids, known, self.class_names)
        columns = Columns(labels, ids, known, sites if any(sites) else None)
        return StoredRecords(self, here, columns)

    def _mapped(self, part: int) -> np.ndarray:
        return np.memmap(parts.pixels_path(self._folder, part), np.uint8, "r")


def _joined(parts: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Tables one after another, joined to some with so many rows or more."""
    while some := list(_until(parts, rows)):
        yield pa.concat_tables(some)


def _until(parts: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The next tables, until they have so many rows."""
    while rows > 0 and (table := next(parts, None)) is not None:
        rows -= len(table)
        yield table


class _Masks:
    """The masks of a spool where `StoredRecords` looks for images."""

    dtype = np.dtype(np.uint8)

    def __init__(self, spool: Spool) -> None:
        self._spool, self.class_names = spool, spool.class_names
        self.image_shape = (*spool.image_shape[:-1], 1)

    def read_images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Masks [n, H, W, 1] of rows [n]."""
        return np.stack([self._spool.read_mask(int(row)) for row in indices])[..., None]


class _Columns:
    """What is known of the images, part after part, on disk.

    Attributes:
        names: of the columns.
        splits: names in the order in which they come.
        dtypes: likewise, each with the first image that has it.
    """

    def __init__(self, folder: pathlib.Path, numbers: Mapping[str, type]) -> None:
        self.names = (*_TEXTS, *(name for name in numbers if name != "part"))
        self.splits: dict[str, int] = {}
        self.dtypes: dict[str, str] = {}
        self._numbers = {
            name: _Numbers(folder / f"{name}.numbers", dtype) for name, dtype in numbers.items()
        }
        self._writers = {name: texts.Writer(folder / f"{name}.text") for name in _TEXTS}
        self._parts = 0

    def add(self, table: pa.Table) -> None:
        """Take down the images of the next part."""
        for split in table["split"].unique().to_pylist():
            self.splits.setdefault(split, len(self.splits))
        for dtype in table["dtype"].unique().to_pylist():
            row = pc.index(table["dtype"], dtype).as_py()
            self.dtypes.setdefault(dtype, table["id"][row].as_py())
        found = {name: table[name].to_numpy() for name in self.names if name not in _TEXTS}
        places = {name: place for place, name in enumerate(self.dtypes)}
        found["split"] = [self.splits[name] for name in table["split"].to_pylist()]
        found["dtype"] = [places[name] for name in table["dtype"].to_pylist()]
        found["part"] = np.full(len(table), self._parts)
        for name, numbers in self._numbers.items():
            numbers.write(found[name])
        for name, writer in self._writers.items():
            writer.write(table[name])
        self._parts += 1

    def numbers(self) -> dict[str, np.ndarray]:
        """Columns [N]."""
        return {name: numbers.close() for name, numbers in self._numbers.items()}

    def texts(self) -> dict[str, texts.Texts]:
        """Columns [N]."""
        return {name: writer.close() for name, writer in self._writers.items()}


class _Numbers:
    """Puts a column of numbers on disk, part by part."""

    def __init__(self, path: pathlib.Path, dtype: type) -> None:
        """Begin the file."""
        self._path, self._dtype = path, dtype
        if path.exists():
            path.unlink()  # it may be mapped still, so it is not written over
        self._file = path.open("wb")

    def write(self, values: Sequence[int] | np.ndarray) -> None:
        """Append numbers."""
        self._file.write(np.asarray(values).astype(self._dtype).tobytes())

    def close(self) -> np.ndarray:
        """The column [N], which is read when it is needed; nobody can write to it."""
        self._file.close()
        if not self._path.stat().st_size:  # which can't be mapped
            return np.zeros(0, self._dtype)
        return np.asarray(np.memmap(self._path, self._dtype, "r"))


def _common_dtype(first: Mapping[str, str], listing: Listing) -> np.dtype:
    """The dtype of all images, or the one that those of several fit into.

    Args:
        first: of every dtype an image that has it.
        listing: of the source.

    Raises:
        UserError: several dtypes where there should be one.
    """
    if len(first) > 1 and not listing.of_files:
        raise UserError(f"{listing.where} mixes bit depths between splits; convert them to one.")
    if len(first) > 1 and listing.kind not in _MIXED:
        (one, image), (other, another) = list(first.items())[:2]
        raise UserError(
            f"{another} is {other} but {image} is {one}; convert the folder to one bit depth."
        )
    return np.dtype(max(first, key=lambda name: np.dtype(name).itemsize, default="uint8"))
