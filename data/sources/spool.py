"""The parts of a source as one set of images, which stay on disk."""

import functools
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data import checks, tables
from data import images as image_files
from data.errors import UserError
from data.preprocess.image import to_pixels
from data.records import Columns, StoredRecords
from data.sources import parts
from data.sources.raw import Listing, Report

_COLUMNS = (
    "id", "label", "split", "group", "site", "dtype", "channels", "offset", "low", "high",
)  # fmt: skip
# What `write_originals` keeps of every image.
_ORIGINALS = (
    "id", "low", "high", "bits", "minimum", "maximum", "depth", "height", "width", "channels",
    "spacing_slice", "spacing_row", "spacing_column", "window_low", "window_high", "site",
    "affine", "undo",
)  # fmt: skip
_OPEN = 16  # parts that are mapped at a time
_TEXTS = 4096  # texts that are converted at a time
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
        found = [table.select(_COLUMNS) for table in self._tables()]
        self._part = np.repeat(np.arange(count, dtype=np.int32), [len(table) for table in found])
        rows = pa.concat_tables(table.replace_schema_metadata() for table in found)
        self._offset = rows["offset"].to_numpy()
        self.dtype = _common_dtype(rows, listing)
        self._channels = rows["channels"].to_numpy()
        self._narrow = pc.not_equal(rows["dtype"], self.dtype.name).to_numpy()
        self._rows = rows.select(["id", "label", "split", "group", "site"])
        low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
        self._values = (np.minimum(low, high), np.maximum(low, high)) if ranged else None
        self._range: tuple[float, float] | None = None
        if ranged and len(rows):
            self._set_range(slice(None))
        self._inverted = low > high
        self._map = functools.lru_cache(_OPEN)(self._mapped)

    def _set_range(self, rows: slice | np.ndarray) -> None:
        lowest, highest = self._values
        self._range = float(lowest[rows].min()), float(highest[rows].max())

    def range_of(self, ids: np.ndarray) -> None:
        """Where all images have one range, take that of these ids; other values are clipped to it.

        Test images must not tell what black and white are, so a study gives those of training.
        """
        if self._range is not None:
            self._set_range(pc.is_in(self._rows["id"], value_set=pa.array(ids)).to_numpy())

    def report(self) -> Report:
        """What there is to tell about the files."""
        return Report.joined(parts.told(table) for table in self._tables())

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

    def _pixels(self, row: int) -> np.ndarray:
        """One image [H, W, its own C] in the storage dtype."""
        dtype = np.dtype(np.uint8) if self._narrow[row] else self.dtype
        stored = np.dtype(np.float32) if self._range else dtype
        shape = (*self.image_shape[:-1], int(self._channels[row]))
        start, length = self._offset[row], int(np.prod(shape)) * stored.itemsize
        there = self._map(int(self._part[row]))[start : start + length]
        pixels = there.view(stored).reshape(shape)
        if self._range:
            return to_pixels(pixels.astype(np.float64), *self._ends(row), self.dtype)
        return pixels * _WIDEN if self._narrow[row] else pixels

    def _ends(self, row: int) -> tuple[float, float]:
        """What black and white stand for in an image, where all have the same range."""
        low, high = self._range
        return (high, low) if self._inverted[row] else (low, high)

    def write_originals(self, path: pathlib.Path) -> None:
        """Write what the source knew of every image as a table, in the order of the source."""
        schema = pa.schema([parts.FACTS.field(name) for name in _ORIGINALS])
        with tables.parquet_writer(path, schema) as writer:
            first = 0
            for table in self._tables():
                rows = range(first, first + len(table))
                first += len(table)
                if self._range:
                    ends = np.array([self._ends(row) for row in rows]).reshape(-1, 2)
                    for place, name in enumerate(("low", "high")):
                        where = table.schema.get_field_index(name)
                        table = table.set_column(where, name, pa.array(ends[:, place]))
                writer.write_table(table.select(_ORIGINALS).cast(schema))

    def _tables(self) -> Iterator[pa.Table]:
        for index in range(self._count):
            yield tables.read_table(parts.facts_path(self._folder, index))

    def _records(self, split: str) -> StoredRecords:
        where = f"{self._where} ({split})"
        here = np.flatnonzero(pc.equal(self._rows["split"], split).to_numpy())
        if len(here) == 0:
            raise UserError(f"{where} holds no images.")
        rows = self._rows.take(here)
        ids, groups, sites = (_texts(rows[name]) for name in ("id", "group", "site"))
        labels, known = rows["label"].to_numpy(), groups if (groups != "").any() else None
        checks.check_columns(where, len(here), labels, ids, known, self.class_names)
        return StoredRecords(
            self, here, Columns(labels, ids, known, sites if (sites != "").any() else None)
        )

    def _mapped(self, part: int) -> np.ndarray:
        return np.memmap(parts.pixels_path(self._folder, part), np.uint8, "r")


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    """Arrow text [N] as NumPy text [N], without a Python object for each of them at a time."""
    longest = pc.max(pc.utf8_length(column)).as_py()
    texts = np.empty(len(column), f"U{max(longest, 1)}")
    for start in range(0, len(column), _TEXTS):
        texts[start : start + _TEXTS] = column[start : start + _TEXTS].to_pylist()
    return texts


def _common_dtype(rows: pa.Table, listing: Listing) -> np.dtype:
    """The dtype of all images, or the one that those of several fit into."""
    names = pc.unique(rows["dtype"]).to_pylist()
    if len(names) > 1 and not listing.of_files:
        raise UserError(f"{listing.where} mixes bit depths between splits; convert them to one.")
    if len(names) > 1 and listing.kind not in _MIXED:
        one, other = (
            (name, rows["id"][pc.index(rows["dtype"], name).as_py()].as_py()) for name in names[:2]
        )
        raise UserError(
            f"{other[1]} is {other[0]} but {one[1]} is {one[0]}; convert the folder to one bit "
            "depth."
        )
    return np.dtype(max(names, key=lambda name: np.dtype(name).itemsize, default="uint8"))
