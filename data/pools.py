"""Pools of synthetic images: sharded records, a manifest, and identifiers to make each image again.

A pool folder opens with ``tfds.builder_from_directory`` (name 'pool', split 'train') and holds
``manifest.parquet``, one row per image in reading order.
"""

import copy
import os
import pathlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data import records, shards, tables
from data.errors import UserError
from data.pool_writer import (
    MANIFEST,
    SPLIT,
    Origins,
    PoolShard,
    PoolSpec,
    assemble,
    clear,
    is_finished,
)
from data.sample_ids import parse_sample_id, sample_id, sample_ids

__all__ = [
    "FIRST_SEED",
    "MANIFEST",
    "Origins",
    "Pool",
    "PoolShard",
    "PoolSpec",
    "assemble",
    "clear",
    "is_finished",
    "open_pool",
    "parse_sample_id",
    "sample_id",
]


# Seeds of the pools never meet: the VRN is not asked about an image it was trained on.
FIRST_SEED = {"first": 0, "second": 2**31}
_BLOCK = 4096  # images read at a time when a whole pool is loaded


class Pool(records.RecordsBase):
    """A pool on disk: `data.records.Records` with ``synthetic`` true, and its manifest.

    It holds the label (int32) and seed (uint32) of every image, 8 bytes, and the pixels where asked
    to; ids are put together when they are asked for.
    """

    def __init__(
        self,
        stored: shards.StoredSplit,
        manifest: pathlib.Path,
        checkpoint_digest: str,
        labels: np.ndarray,
        seeds: np.ndarray,
    ) -> None:
        """Use `open_pool`."""
        self._stored, self._manifest, self._digest = stored, manifest, checkpoint_digest
        self.labels, self.seeds = labels, seeds
        self.class_names, self.image_shape = stored.class_names, stored.image_shape
        self.dtype, self.groups, self.synthetic = stored.dtype, None, True
        self._images: np.ndarray | None = None  # pixels in memory, if they are held
        self._places: np.ndarray | None = None  # rows of these, or of the shards; None: all

    def hold(self) -> None:
        """Read all pixels of these rows into memory."""
        images = np.empty((len(self), *self.image_shape), self.dtype)
        for start in range(0, len(images), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(images)))
            images[rows] = self.read_raw(rows)
        self._images, self._places = images, None

    @property
    def manifest(self) -> pa.Table:
        """The pool's manifest, row i of image i; read from disk each time."""
        return tables.read_table(self._manifest)

    @property
    def origins(self) -> pa.Table | None:
        """'source_id', 'domain' and 'repeat' of the pool, row i of image i, from disk each time.

        None where the images were made of noise.
        """
        with pq.ParquetFile(self._manifest) as file:
            if "source_id" not in file.schema_arrow.names:  # as pools were before translation
                return None
        found = tables.read_table(self._manifest, ["source_id", "domain", "repeat"])
        return None if found["source_id"].null_count else found

    @property
    def ids(self) -> np.ndarray:
        """Sample ids, text [N]; made each time, about 100 bytes an image."""
        return np.array(self.ids_at(slice(None)).to_pylist(), np.str_)

    def ids_at(self, rows: np.ndarray | slice) -> pa.Array:
        """Sample ids of some rows, Arrow text [n]."""
        return sample_ids(self._digest, self.labels[rows], self.seeds[rows])

    def finder(self) -> Callable[[pa.Array], np.ndarray]:
        """Looks up sample ids: Arrow text [n] to rows [n], -1 where it is no image of these."""
        order = np.argsort(self.seeds, kind="stable")

        def find(ids: pa.Array) -> np.ndarray:
            seeds = pc.struct_field(pc.extract_regex(ids, r"-(?P<seed>\d{1,18})$"), 0)
            seeds = pc.fill_null(seeds.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
            near = np.searchsorted(self.seeds, seeds, sorter=order).clip(max=len(order) - 1)
            rows = order[near]
            same = pc.equal(self.ids_at(rows), ids).to_numpy(zero_copy_only=False)
            return np.where(same, rows, -1)

        return find

    def read_raw(self, indices: np.ndarray) -> np.ndarray:
        """See `data.records.Records.read_raw`."""
        places = indices if self._places is None else self._places[indices]
        return self._stored.read_images(places) if self._images is None else self._images[places]

    def subset(self, indices: np.ndarray) -> "Pool":
        """See `data.records.Records.subset`; pixels in memory are shared."""
        chosen = records.as_indices(indices)
        part = copy.copy(self)
        part.labels, part.seeds = self.labels[chosen], self.seeds[chosen]
        part._places = chosen if self._places is None else self._places[chosen]
        return part


def open_pool(directory: str | os.PathLike[str], *, hold: bool = True) -> Pool:
    """Open a pool after checking its shards and manifest.

    Args:
        directory: the pool's folder.
        hold: keep the pixels in memory if they are fewer than `data.records.IN_MEMORY_BYTES`, for
            reading them at random again and again; otherwise they are read when asked for.

    Raises:
        UserError: a missing, truncated or damaged file, a manifest of other images, or images that
            a generator did not make; the message names the file.
    """
    directory = pathlib.Path(directory)
    stored = shards.open_split(directory, SPLIT)
    path, digests = directory / MANIFEST, shards.read_digests(directory)
    if MANIFEST not in digests:
        raise UserError(f"{directory} holds real images, not a pool; give a generated pool.")
    if not path.is_file():
        raise UserError(f"{path} is missing; run the stage that writes it again.")
    if tables.file_sha256(path) != digests[MANIFEST]["sha256"]:
        raise UserError(
            f"{path} does not describe the images beside it (its SHA-256 is not the one in "
            f"{shards.DIGESTS}); generate the pool again."
        )
    with pq.ParquetFile(path) as file:
        first = file.read_row_group(0, ["checkpoint_digest"]).column(0)[0].as_py()
    labels, seeds = np.empty(len(stored), np.int32), np.empty(len(stored), np.uint32)
    row = 0
    for batch in tables.read_batches(path, ["label", "seed"]):  # all at once would be 16 bytes each
        rows = slice(row, row := row + len(batch))
        labels[rows] = batch["label"].cast(pa.int32())
        seeds[rows] = batch["seed"].cast(pa.uint32())
    pool = Pool(stored, path, first, labels, seeds)
    size = len(pool) * int(np.prod(pool.image_shape)) * pool.dtype.itemsize
    if hold and size < records.IN_MEMORY_BYTES:
        pool.hold()
    return pool
