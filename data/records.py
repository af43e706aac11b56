"""Labelled images behind one interface, in memory or on disk, and how pixels are quantised.

Inside the project images are NHWC float32 in [-1, 1]; stored, they keep their own depth (uint8,
uint16 or float32). `to_unit` and `from_unit` convert between the two without loss.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from data import checks, record_writer, shards, tables, texts
from data.errors import UserError

# Images smaller than this in total are held in memory, larger sets are read record by record.
IN_MEMORY_BYTES = 1 << 30
# Storage value v in [0, top] maps to v / (top / 2) - 1; float32 is stored as it is.
_HALF_RANGE = {np.dtype(np.uint8): 127.5, np.dtype(np.uint16): 32767.5}


def to_unit(raw: np.ndarray) -> np.ndarray:
    """Map stored pixels (uint8, uint16 or float32, any shape) to float32 in [-1, 1].

    Raises:
        ValueError: another dtype.
    """
    if raw.dtype == np.float32:
        return raw
    half = _HALF_RANGE.get(raw.dtype)
    if half is None:
        raise ValueError(f"pixels of type {raw.dtype} have no defined range")
    # Both the division and the subtraction round once, and 0 and the top value are exact.
    unit = np.divide(raw, np.float32(half), dtype=np.float32)
    unit -= np.float32(1)
    return unit


def from_unit(x: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Map float images in [-1, 1] to stored pixels: clipped, rounded half to even.

    ``from_unit(to_unit(raw), raw.dtype)`` is ``raw`` bit for bit for every storage dtype.

    Raises:
        ValueError: a dtype that isn't a storage dtype, or NaN.
    """
    dtype = np.dtype(dtype)
    if np.isnan(x).any():
        raise ValueError("images hold NaN")
    if dtype == np.float32:
        return np.clip(x, -1, 1).astype(np.float32)
    half = _HALF_RANGE.get(dtype)
    if half is None:
        raise ValueError(f"pixels of type {dtype} have no defined range")
    exact = x.astype(np.float64)  # in place from here: temporaries are most of the time this takes
    exact += 1
    exact *= half
    np.clip(exact, 0, 2 * half, out=exact)
    return np.rint(exact, out=exact).astype(dtype)


class Records(Protocol):
    """N labelled images.

    Attributes:
        labels: int64 [N], -1 where the label is missing.
        ids: text [N], unique.
        groups: text [N] (for instance patients), or None when unknown.
        sites: text [N], where images come from, or None when unknown; used for splitting only.
        class_names: names in label order.
        image_shape: (H, W, C).
        dtype: storage type of the pixels: uint8, uint16 or float32.
        synthetic: whether a network made the images.
    """

    labels: np.ndarray
    ids: texts.Column
    groups: texts.Column | None
    sites: texts.Column | None
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    dtype: np.dtype
    synthetic: bool

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images float32 [n, H, W, C] in [-1, 1] at integer ``indices`` [n]."""

    def read_raw(self, indices: np.ndarray) -> np.ndarray:
        """Images [n, H, W, C] in the storage dtype at integer ``indices`` [n]."""

    def subset(self, indices: np.ndarray) -> "Records":
        """The records at ``indices`` (integers [n] or a mask [N]), in that order."""

    def without_labels(self) -> "Records":
        """The same images with every label missing (-1)."""

    def digest(self) -> str:
        """SHA-256 over pixels, labels, ids, groups and class names: the set's identity."""


class RecordsBase:
    """What in-memory and stored records have in common."""

    labels: np.ndarray
    ids: texts.Column
    groups: texts.Column | None
    sites: texts.Column | None = None
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    dtype: np.dtype
    synthetic: bool

    def __len__(self) -> int:
        return len(self.labels)

    def read_raw(self, indices: np.ndarray) -> np.ndarray:
        """See `Records.read_raw`."""
        raise NotImplementedError

    def read(self, indices: np.ndarray) -> np.ndarray:
        """See `Records.read`."""
        return to_unit(self.read_raw(indices))

    def digest(self) -> str:
        """See `Records.digest`; reads the pixels in blocks, so memory stays bounded."""
        hasher = hashlib.sha256(repr((self.image_shape, self.dtype.str, self.class_names)).encode())
        for rows in record_writer.blocks(0, len(self), self.image_shape, self.dtype):
            hasher.update(np.ascontiguousarray(self.read_raw(rows)).data)
        hasher.update(np.ascontiguousarray(self.labels, "<i8").data)
        for column in (self.ids, self.groups if self.groups is not None else np.array([])):
            for block in texts.blocks(column):
                # Length-prefixed: joining would let two different lists share a digest.
                words = (str(word).encode() for word in block)
                hasher.update(b"".join(b"%d:%s" % (len(word), word) for word in words))
            hasher.update(b";")
        return hasher.hexdigest()


class ArrayRecords(RecordsBase):
    """Records held in memory, in their storage dtype."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        ids: np.ndarray | Sequence[str],
        class_names: Sequence[str],
        groups: np.ndarray | Sequence[str] | None = None,
        synthetic: bool = False,
        *,
        sites: np.ndarray | Sequence[str] | None = None,
        where: str = "images",
    ) -> None:
        """Check and hold the arrays (they are not copied).

        Args:
            images: [N, H, W, C], or volumes [N, D, H, W, C], uint8, uint16 or float32 in [-1, 1].
            labels: integers [N]; -1 = missing.
            ids: unique names [N].
            class_names: K unique names in label order.
            groups: names [N] of what must not be split (patients), or None.
            synthetic: whether a network made the images.
            sites: names [N] of where images come from, or None.
            where: what error messages call this set: a file and split.

        Raises:
            UserError: anything of the above doesn't hold; the message says what and where.
        """
        self.images = np.asarray(images)
        self.labels = np.asarray(labels)
        self.ids = np.asarray(ids, dtype=np.str_)
        self.groups = None if groups is None else np.asarray(groups, dtype=np.str_)
        self.sites = None if sites is None else np.asarray(sites, dtype=np.str_)
        self.class_names = tuple(str(name) for name in class_names)
        self.synthetic = synthetic
        self.image_shape, self.dtype = self.images.shape[1:], self.images.dtype
        self._validate(where)
        self.labels = self.labels.astype(np.int64)

    def read_raw(self, indices: np.ndarray) -> np.ndarray:
        """See `Records.read_raw`."""
        return self.images[indices]

    def subset(self, indices: np.ndarray) -> "ArrayRecords":
        """See `Records.subset`."""
        chosen = as_indices(indices)
        return self._with(chosen, self.labels[chosen])

    def without_labels(self) -> "ArrayRecords":
        """See `Records.without_labels`."""
        return self._with(slice(None), np.full(len(self), -1, np.int64))

    def _with(self, chosen: np.ndarray | slice, labels: np.ndarray) -> "ArrayRecords":
        """A part of this set; what was validated once isn't validated again."""
        part = object.__new__(ArrayRecords)
        part.images, part.labels, part.ids = self.images[chosen], labels, self.ids[chosen]
        part.groups = None if self.groups is None else self.groups[chosen]
        part.sites = None if self.sites is None else self.sites[chosen]
        part.class_names, part.synthetic = self.class_names, self.synthetic
        part.image_shape, part.dtype = self.image_shape, self.dtype
        return part

    def _validate(self, where: str) -> None:
        if self.images.ndim not in (4, 5):
            raise UserError(
                f"{where} has shape {self.images.shape}; images must be [N, H, W, C], volumes "
                "[N, D, H, W, C]."
            )
        checks.check_dtype(where, self.dtype)
        checks.check_columns(
            where, len(self.images), self.labels, self.ids, self.groups, self.class_names
        )
        if self.dtype == np.float32:
            checks.check_floats(where, self.images, self.ids)


class _Stored(Protocol):
    """Images on disk: `data.shards.StoredSplit`, or the spool of a source."""

    image_shape: tuple[int, int, int]
    dtype: np.dtype
    class_names: tuple[str, ...]

    def read_images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Columns:
    """What is known of N records besides their images; as the attributes of `Records`."""

    labels: np.ndarray
    ids: texts.Column
    groups: texts.Column | None = None
    sites: texts.Column | None = None
    synthetic: bool = False


class StoredRecords(RecordsBase):
    """Records too large for memory: labels and ids are held, pixels are read when asked for.

    Attributes:
        order: integers [N], the rows of what is stored.
    """

    def __init__(self, stored: _Stored, order: np.ndarray, columns: "Columns") -> None:
        """Records whose images are rows ``order`` [N] of ``stored``."""
        self._stored, self.order, self._columns = stored, order, columns
        self.labels, self.ids, self.groups = columns.labels, columns.ids, columns.groups
        self.sites, self.synthetic = columns.sites, columns.synthetic
        self.class_names, self.dtype = stored.class_names, stored.dtype
        self.image_shape = stored.image_shape

    def read_raw(self, indices: np.ndarray) -> np.ndarray:
        """See `Records.read_raw`."""
        return self._stored.read_images(self.order[indices])

    def subset(self, indices: np.ndarray) -> "StoredRecords":
        """See `Records.subset`."""
        chosen = as_indices(indices)
        columns = self._columns
        part = Columns(
            labels=columns.labels[chosen],
            ids=columns.ids[chosen],
            groups=None if columns.groups is None else columns.groups[chosen],
            sites=None if columns.sites is None else columns.sites[chosen],
            synthetic=columns.synthetic,
        )
        return StoredRecords(self._stored, self.order[chosen], part)

    def stored_in(self, stored: _Stored) -> "StoredRecords":
        """The same records with other images, in the same rows of ``stored``."""
        return StoredRecords(stored, self.order, self._columns)

    def without_labels(self) -> "StoredRecords":
        """See `Records.without_labels`."""
        columns = dataclasses.replace(self._columns, labels=np.full(len(self), -1, np.int64))
        return StoredRecords(self._stored, self.order, columns)


def as_indices(indices: np.ndarray) -> np.ndarray:
    """Indices int64 [n] of indices or of a mask [N]."""
    indices = np.asarray(indices)
    return np.flatnonzero(indices) if indices.dtype == bool else indices.astype(np.int64)


def write_records(
    directory: str | os.PathLike[str],
    splits: Mapping[str, Records],
    *,
    name: str = "records",
    description: str = "",
    num_shards: int = 1,
) -> None:
    """Write ``{split: records}`` as one folder that `tfds.builder_from_directory` opens.

    Args:
        directory: the folder to make; replaced as a whole when all is written, or left as it was.
        splits: at least one image each, all of one shape, dtype and list of classes.
        name: tfds dataset name.
        description: text for tfds' metadata.
        num_shards: files per split.

    Raises:
        UserError: an empty split, splits that don't fit together, or synthetic 'val' or 'test'.
    """
    with tables.atomic_dir(directory) as aside:
        longest = max(map(len, splits.values()))
        rows = max(1, -(-longest // num_shards))
        record_writer.fill(aside, splits, name=name, description=description, shard_rows=rows)
        record_writer.clear(aside)


def open_records(directory: str | os.PathLike[str], split: str) -> ArrayRecords | StoredRecords:
    """Open one split of a folder made by `write_records` or `data.pools.assemble`.

    Small splits (below `IN_MEMORY_BYTES`) are loaded; larger ones stay on disk with random access.

    Raises:
        UserError: a missing, truncated or damaged file (named), a split that isn't there, or
            synthetic images in val or test.
    """
    stored = shards.open_split(pathlib.Path(directory), split)
    count = len(stored)
    total = count * int(np.prod(stored.image_shape)) * stored.dtype.itemsize
    images = (
        np.empty((count, *stored.image_shape), stored.dtype) if total < IN_MEMORY_BYTES else None
    )
    rows = []
    for block in record_writer.blocks(0, count, stored.image_shape, stored.dtype):
        for i, row in zip(block, stored.read(block), strict=True):
            image = row.pop("image")
            if images is not None:
                images[i] = image
            rows.append(row)
    labels = np.array([row["label"] for row in rows], np.int64)
    ids = np.array([row["sample_id"].decode() for row in rows], np.str_)
    groups = np.array([row["group"].decode() for row in rows], np.str_)
    known_groups = groups if (groups != "").any() else None
    synthetic = any(bool(row["synthetic"]) for row in rows)
    found: ArrayRecords | StoredRecords
    if images is not None:
        found = ArrayRecords(
            images, labels, ids, stored.class_names, known_groups, synthetic, where=str(directory)
        )
    else:
        columns = Columns(labels, ids, known_groups, synthetic=synthetic)
        found = StoredRecords(stored, np.arange(count), columns)
    checks.check_split_allowed(split, found)
    return found
