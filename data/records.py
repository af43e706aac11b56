"""Labelled images behind one interface, in memory or on disk, and how pixels are quantised.

Inside the project images are NHWC float32 in [-1, 1]; stored, they keep their own depth (uint8,
uint16 or float32). `to_unit` and `from_unit` convert between the two without loss.
"""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from data import marks, shards, tables
from data.errors import UserError

# Images smaller than this in total are held in memory, larger sets are read record by record.
IN_MEMORY_BYTES = 1 << 30
_READ_BLOCK = 4096
# Storage value v in [0, top] maps to v / (top / 2) - 1; float32 is stored as it is.
_HALF_RANGE = {np.dtype(np.uint8): 127.5, np.dtype(np.uint16): 32767.5}
STORAGE_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


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
        class_names: names in label order.
        image_shape: (H, W, C).
        dtype: storage type of the pixels: uint8, uint16 or float32.
        synthetic: whether a network made the images.
    """

    labels: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None
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

    def digest(self) -> str:
        """SHA-256 over pixels, labels, ids, groups and class names: the set's identity."""


class RecordsBase:
    """What in-memory and stored records have in common."""

    labels: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None
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
        for start in range(0, len(self), _READ_BLOCK):
            block = self.read_raw(np.arange(start, min(start + _READ_BLOCK, len(self))))
            hasher.update(np.ascontiguousarray(block).data)
        hasher.update(np.ascontiguousarray(self.labels, "<i8").data)
        for text in (self.ids, self.groups if self.groups is not None else ()):
            # Length-prefixed: joining would let two different lists share a digest.
            hasher.update(b"".join(b"%d:%s" % (len(t), t) for t in (str(s).encode() for s in text)))
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
        where: str = "images",
    ) -> None:
        """Check and hold the arrays (they are not copied).

        Args:
            images: [N, H, W, C] uint8, uint16 or float32 in [-1, 1].
            labels: integers [N]; -1 = missing.
            ids: unique names [N].
            class_names: K unique names in label order.
            groups: names [N] of what must not be split (patients), or None.
            synthetic: whether a network made the images.
            where: what error messages call this set: a file and split.

        Raises:
            UserError: anything of the above doesn't hold; the message says what and where.
        """
        self.images = np.asarray(images)
        self.labels = np.asarray(labels)
        self.ids = np.asarray(ids, dtype=np.str_)
        self.groups = None if groups is None else np.asarray(groups, dtype=np.str_)
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
        """The same images with every label missing (-1)."""
        return self._with(slice(None), np.full(len(self), -1, np.int64))

    def _with(self, chosen: np.ndarray | slice, labels: np.ndarray) -> "ArrayRecords":
        """A part of this set; what was validated once isn't validated again."""
        part = object.__new__(ArrayRecords)
        part.images, part.labels, part.ids = self.images[chosen], labels, self.ids[chosen]
        part.groups = None if self.groups is None else self.groups[chosen]
        part.class_names, part.synthetic = self.class_names, self.synthetic
        part.image_shape, part.dtype = self.image_shape, self.dtype
        return part

    def _validate(self, where: str) -> None:
        if self.images.ndim != 4:
            raise UserError(f"{where} has shape {self.images.shape}; images must be [N, H, W, C].")
        if self.dtype not in STORAGE_DTYPES:
            raise UserError(
                f"{where} has pixels of type {self.dtype}; "
                "store them as uint8, uint16 or float32 in [-1, 1]."
            )
        columns = {"labels": self.labels, "ids": self.ids, "groups": self.groups}
        for name, column in columns.items():
            if column is not None and column.shape != (len(self.images),):
                raise UserError(
                    f"{where} has {len(self.images)} images but {name} of shape {column.shape}; "
                    "give one per image."
                )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise UserError(
                f"{where} has labels of type {self.labels.dtype}; give integers from 0."
            )
        count = len(self.class_names)
        if count == 0 or len(set(self.class_names)) != count:
            raise UserError(
                f"{where} has class names {list(self.class_names)}; give each class its own name."
            )
        wrong = np.flatnonzero((self.labels < -1) | (self.labels >= count))
        if wrong.size:
            raise UserError(
                f"{where}: image '{self.ids[wrong[0]]}' has label {self.labels[wrong[0]]}, out of "
                f"range for {count} classes; labels go from 0 to {count - 1}, -1 = missing."
            )
        names, counts = np.unique(self.ids, return_counts=True)
        if len(names) != len(self.ids):
            raise UserError(
                f"{where}: the id '{names[counts.argmax()]}' occurs {counts.max()} times; "
                "give every image its own id."
            )
        if self.dtype == np.float32 and len(self.images):
            self._validate_floats(where)

    def _validate_floats(self, where: str) -> None:
        flat = self.images.reshape(len(self.images), -1)
        bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
        if bad.size:
            raise UserError(
                f"{where}: image '{self.ids[bad[0]]}' holds NaN or infinite pixels; "
                "mend or remove it."
            )
        low, high = flat.min(), flat.max()
        if low < -1 or high > 1:
            raise UserError(
                f"{where} has float pixels from {low:g} to {high:g}; "
                "scale them to [-1, 1], or store uint8 or uint16."
            )


class StoredRecords(RecordsBase):
    """Records too large for memory: labels and ids are held, pixels are read when asked for."""

    def __init__(self, stored: shards.StoredSplit, order: np.ndarray, columns: "_Columns") -> None:
        self._stored, self._order = stored, order
        self._columns = columns
        self.labels, self.ids, self.groups, self.synthetic = columns
        self.class_names, self.dtype = stored.class_names, stored.dtype
        self.image_shape = stored.image_shape

    def read_raw(self, indices: np.ndarray) -> np.ndarray:
        """See `Records.read_raw`."""
        return self._stored.read_images(self._order[indices])

    def subset(self, indices: np.ndarray) -> "StoredRecords":
        """See `Records.subset`."""
        chosen = as_indices(indices)
        labels, ids, groups, synthetic = self._columns
        groups = None if groups is None else groups[chosen]
        columns = (labels[chosen], ids[chosen], groups, synthetic)
        return StoredRecords(self._stored, self._order[chosen], columns)


_Columns = tuple[np.ndarray, np.ndarray, np.ndarray | None, bool]


def as_indices(indices: np.ndarray) -> np.ndarray:
    """Indices int64 [n] of indices or of a mask [N]."""
    indices = np.asarray(indices)
    return np.flatnonzero(indices) if indices.dtype == bool else indices.astype(np.int64)


def check_split_allowed(split: str, records: Records) -> None:
    """Raise UserError if synthetic images would be validated or tested on."""
    if split in ("val", "test") and (records.synthetic or marks.marked(records.ids).any()):
        raise UserError(
            f"the '{split}' split would hold synthetic images; validate and test on real ones only."
        )


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
    first = next(iter(splits.values()))
    for split, records in splits.items():
        check_split_allowed(split, records)
        if len(records) == 0:
            raise UserError(f"{directory}: the '{split}' split would be empty; leave it out.")
        for what in ("image_shape", "dtype", "class_names"):
            if getattr(records, what) != getattr(first, what):
                raise UserError(
                    f"{directory}: the '{split}' split has {what} {getattr(records, what)}, "
                    f"another has {getattr(first, what)}; they must agree."
                )
    features = shards.make_features(first.image_shape, first.dtype, first.class_names)
    with tables.atomic_dir(directory) as aside, contextlib.ExitStack() as stack:
        entries = {}
        for split, records in splits.items():
            writer = shards.SplitWriter(aside, name=name, split=split, num_shards=num_shards)
            stack.callback(writer.abandon)  # a failed write must not leave open files behind
            _write_split(writer, records)
            entries[split] = writer.close()
        stack.pop_all()
        shards.write_metadata(aside, entries, name=name, features=features, description=description)


def _write_split(writer: shards.SplitWriter, records: Records) -> None:
    for start in range(0, len(records), _READ_BLOCK):
        indices = np.arange(start, min(start + _READ_BLOCK, len(records)))
        for i, image in zip(indices, records.read_raw(indices), strict=True):
            group = "" if records.groups is None else str(records.groups[i])
            name = str(records.ids[i])
            synthetic = records.synthetic or marks.is_marked(name)
            writer.write(shards.encode(image, records.labels[i], name, group, synthetic))


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
    for start in range(0, count, _READ_BLOCK):
        block = stored.read(np.arange(start, min(start + _READ_BLOCK, count)))
        for i, row in enumerate(block, start):
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
        found = StoredRecords(stored, np.arange(count), (labels, ids, known_groups, synthetic))
    check_split_allowed(split, found)
    return found
