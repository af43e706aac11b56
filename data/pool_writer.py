"""Writing pools: shard by shard, in memory that does not grow with the number of images.

A pool grows in a hidden folder. Every shard there is an array_record file, its part of the manifest
and, once both are on disk, an entry with their digests; so shards can be written by any number of
processes, and those that a killed run finished need not be made again. `assemble` joins the parts
to the manifest and adds the metadata. The hidden files go along with the pool to its place, so that
a run killed at any moment goes on; `clear` deletes them once the pool is known to be complete.
"""

import contextlib
import dataclasses
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data import shards, tables
from data.errors import UserError
from data.sample_ids import SeedSet, sample_id, sample_ids

NAME, SPLIT, MANIFEST = "pool", "train", "manifest.parquet"
_ROW_GROUP = 1 << 14  # rows of the manifest that are held at a time
_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("label", pa.int64()),
        ("class_name", pa.string()),
        ("seed", pa.int64()),
        ("checkpoint_digest", pa.string()),
        ("data_digest", pa.string()),
        ("synthetic", pa.bool_()),
        # Of images that were translated from real ones; null in those of noise.
        ("source_id", pa.string()),
        ("domain", pa.string()),
        ("repeat", pa.int64()),
        ("shard", pa.int64()),
        ("index", pa.int64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """What all images of a pool have in common.

    Attributes:
        class_names: names in label order.
        image_shape: (H, W, C).
        dtype: storage type: uint8, uint16 or float32.
        checkpoint_digest: hexadecimal digest of the generator's parameters.
        data_digest: digest of the records the generator was trained on.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    dtype: np.dtype
    checkpoint_digest: str
    data_digest: str


@dataclasses.dataclass(frozen=True)
class Origins:
    """What B images were translated from.

    Attributes:
        source_id: text [B], ids of the real images.
        domain: text [B], names of the domains they were translated to.
        repeat: integers [B], how many images of this domain the source gave before; from 1 on it
            was augmented first.
    """

    source_id: np.ndarray
    domain: np.ndarray
    repeat: np.ndarray


class PoolShard:
    """Writes one shard of a pool in the making; what is not closed leaves nothing behind."""

    def __init__(self, folder: pathlib.Path, spec: PoolSpec, index: int, count: int) -> None:
        """Begin shard ``index`` of ``count`` in ``folder``, whatever was there of it."""
        self._folder, self._spec, self.index = folder, spec, index
        _entry(folder, index).unlink(missing_ok=True)
        self._shard = shards.ShardWriter(shards.shard_path(folder, NAME, SPLIT, index, count))
        self._seeds = SeedSet()
        self._rows: list[dict[str, np.ndarray]] = []  # columns not yet in the part
        self._held = self._written = 0
        self._closed = False
        self._part = pq.ParquetWriter(_part(folder, index), _SCHEMA)

    def write(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seeds: np.ndarray,
        origins: Origins | None = None,
    ) -> list[str]:
        """Append a batch.

        Args:
            images: stored pixels [B, H, W, C] of the pool's dtype.
            labels: integers [B] from 0.
            seeds: integers [B] from 0, which with the label make each image again; a seed makes one
                image.
            origins: what the images were translated from; None of noise, alike in all batches.

        Returns:
            The sample ids [B].

        Raises:
            UserError: a full disk.
            ValueError: other shapes or types, labels out of range, or an image written twice.
        """
        images, labels, seeds = np.asarray(images), np.asarray(labels), np.asarray(seeds)
        spec, classes = self._spec, len(self._spec.class_names)
        if images.shape[1:] != spec.image_shape or not len(images) == len(labels) == len(seeds):
            raise ValueError(
                f"images {images.shape}, {len(labels)} labels and {len(seeds)} seeds don't fit a "
                f"pool of {spec.image_shape} images"
            )
        if images.dtype != spec.dtype:
            raise ValueError(f"images of {images.dtype} don't fit a pool of {spec.dtype}")
        if (wrong := labels[(labels < 0) | (labels >= classes)]).size:
            raise ValueError(f"label {wrong[0]} is not one of {classes} classes")
        self._seeds.add(seeds)
        # One by one: for a batch that is faster than `sample_ids`.
        pairs = zip(labels.tolist(), seeds.tolist(), strict=True)
        names = [sample_id(spec.checkpoint_digest, *pair) for pair in pairs]
        self._shard.write(
            [
                shards.encode(image, label, name, "", True)
                for image, label, name in zip(images, labels.tolist(), names, strict=True)
            ]
        )
        translated = {} if origins is None else vars(origins)
        self._rows.append({"label": labels, "seed": seeds, **translated})
        self._held += len(labels)
        if self._held >= _ROW_GROUP:
            self._flush()
        return names

    def close(self) -> None:
        """Finish the shard, or delete it: from now on a killed run need not make it again.

        Raises:
            UserError, OSError: a full disk.
        """
        try:
            self._shard.close()
            self._flush()
            self._part.close()
            for path in (self._shard.path, _part(self._folder, self.index)):
                tables.fsync(path)
            entry = self._shard.entry() | {"seeds": self._seeds.runs}
            tables.write_json(_entry(self._folder, self.index), entry)
            self._closed = True
        finally:
            self.release()

    def release(self) -> None:
        """Delete what there is of a shard that was not closed."""
        if self._closed:
            return
        self._shard.abandon()
        with contextlib.suppress(OSError):  # a full disk: the error that led here is to be told
            self._part.close()
        _part(self._folder, self.index).unlink(missing_ok=True)

    def _flush(self) -> None:
        """Moves the held rows to the part of the manifest."""
        if not self._rows:
            return
        held = {name: np.concatenate([row[name] for row in self._rows]) for name in self._rows[0]}
        self._rows, self._held = [], 0
        labels, seeds = (held[name].astype(np.int64) for name in ("label", "seed"))
        count, spec = len(labels), self._spec
        columns = {
            "sample_id": sample_ids(spec.checkpoint_digest, labels, seeds),
            "label": labels,
            "class_name": pa.array(spec.class_names).take(pa.array(labels)),
            "seed": seeds,
            "source_id": held.get("source_id", pa.nulls(count, pa.string())),
            "domain": held.get("domain", pa.nulls(count, pa.string())),
            "repeat": held.get("repeat", pa.nulls(count, pa.int64())),
            "checkpoint_digest": pa.repeat(spec.checkpoint_digest, count),
            "data_digest": pa.repeat(spec.data_digest, count),
            "synthetic": pa.repeat(True, count),
            "shard": pa.repeat(pa.scalar(self.index, pa.int64()), count),
            "index": self._written + np.arange(count),
        }
        self._written += count
        self._part.write_table(pa.table(columns, _SCHEMA))


def _part(folder: pathlib.Path, index: int) -> pathlib.Path:
    return folder / f".part-{index:05d}.parquet"


def _entry(folder: pathlib.Path, index: int) -> pathlib.Path:
    return folder / f".shard-{index:05d}.json"


def is_finished(folder: pathlib.Path, index: int) -> bool:
    """Whether shard ``index`` of a pool in the making was closed."""
    return _entry(folder, index).exists()


def assemble(folder: pathlib.Path, spec: PoolSpec, count: int) -> int:
    """Make a pool of ``folder``, which holds ``count`` finished shards; again if it was killed.

    Returns:
        The number of images.

    Raises:
        UserError: there are no images.
        ValueError: two shards hold the same image.
    """
    entries: list[dict[str, Any]] = [tables.read_json(_entry(folder, i)) for i in range(count)]
    total = sum(entry["records"] for entry in entries)
    if total == 0:
        raise UserError(f"{folder} would be an empty pool; ask for images.")
    seeds = SeedSet()
    for entry in entries:
        seeds.merge(entry["seeds"])
    with tables.parquet_writer(folder / MANIFEST, _SCHEMA) as manifest:
        for index in range(count):
            with pq.ParquetFile(_part(folder, index)) as part:
                for group in range(part.num_row_groups):
                    manifest.write_table(part.read_row_group(group))
    shards.write_metadata(
        folder,
        {SPLIT: entries},
        name=NAME,
        features=shards.make_features(spec.image_shape, spec.dtype, spec.class_names),
        description="Synthetic images; see manifest.parquet.",
        others=[MANIFEST],
    )
    return total


def clear(folder: pathlib.Path) -> None:
    """Delete what only a pool in the making needs from a complete one, if it is there."""
    tables.remove_replaced(folder)
    for hidden in folder.glob(".*"):
        hidden.unlink()
