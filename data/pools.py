"""Pools of synthetic images: sharded records, a manifest, and identifiers to make each image again.

A pool folder opens with ``tfds.builder_from_directory`` (name 'pool', split 'train') and holds
``manifest.parquet``, one row per image in reading order.
"""

import contextlib
import os
import pathlib
import re
import types
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data import shards, tables
from data.errors import UserError
from data.records import ArrayRecords, StoredRecords, from_unit, open_records

NAME, SPLIT, MANIFEST = "pool", "train", "manifest.parquet"
_DIGEST_CHARS = 12
_SAMPLE_ID = re.compile(r"([0-9a-f]{12})-(\d+)-(\d+)")


def sample_id(checkpoint_digest: str, label: int, seed: int) -> str:
    """Name a synthetic image by what makes it again: '<digest12>-<label>-<seed>'.

    Raises:
        ValueError: the digest isn't at least 12 lower-case hexadecimal characters.
    """
    name = f"{checkpoint_digest[:_DIGEST_CHARS]}-{int(label)}-{int(seed)}"
    parse_sample_id(name)
    return name


def parse_sample_id(name: str) -> tuple[str, int, int]:
    """Split a sample_id into (first 12 characters of the checkpoint digest, label, seed).

    Raises:
        ValueError: not a sample_id.
    """
    match = _SAMPLE_ID.fullmatch(name)
    if match is None:
        raise ValueError(f"'{name}' is not a sample id '<digest12>-<label>-<seed>'")
    return match[1], int(match[2]), int(match[3])


class PoolWriter:
    """Writes a pool batch by batch; the folder appears only when all of it is on disk.

    Use it as a context manager, or call `close`; an exception inside leaves nothing behind.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        image_shape: tuple[int, int, int],
        dtype: np.dtype | type,
        checkpoint_digest: str,
        data_digest: str,
        num_shards: int = 1,
    ) -> None:
        """Open a new pool beside ``directory``.

        Args:
            directory: the pool's folder; what is there is replaced on `close`.
            class_names: names in label order.
            image_shape: (H, W, C).
            dtype: storage type: uint8, uint16 or float32.
            checkpoint_digest: hexadecimal digest of the generator's parameters.
            data_digest: digest of the records the generator was trained on.
            num_shards: files the images are spread over.
        """
        self._directory = pathlib.Path(directory)
        self._class_names = tuple(class_names)
        self._image_shape, self._dtype = image_shape, np.dtype(dtype)
        self._checkpoint_digest, self._data_digest = checkpoint_digest, data_digest
        self._features = shards.make_features(self._image_shape, self._dtype, self._class_names)
        self._rows: list[tuple[int, int, str, int, int]] = []  # shard, index, id, label, seed
        self._ids: set[str] = set()
        self._stack = contextlib.ExitStack()
        self._aside = self._stack.enter_context(tables.atomic_dir(self._directory))
        self._writer = shards.SplitWriter(
            self._aside, name=NAME, split=SPLIT, features=self._features, num_shards=num_shards
        )
        self._stack.callback(self._writer.close)

    def write(self, images: np.ndarray, labels: np.ndarray, seeds: np.ndarray) -> list[str]:
        """Append a batch.

        Args:
            images: float [B, H, W, C] in [-1, 1]; quantised to the pool's dtype.
            labels: integers [B] from 0.
            seeds: integers [B] from 0, the latent seed of each image.

        Returns:
            The sample ids [B].

        Raises:
            UserError: NaN or infinite images.
            ValueError: other shapes, labels out of range, or an image written twice.
        """
        images = np.asarray(images)
        if images.shape[1:] != self._image_shape or not len(images) == len(labels) == len(seeds):
            raise ValueError(
                f"images {images.shape}, {len(labels)} labels and {len(seeds)} seeds don't fit a "
                f"pool of {self._image_shape} images"
            )
        if not np.isfinite(images).all():
            raise UserError(
                f"the generator makes NaN images for {self._directory}: its training diverged; "
                "train it again with a lower learning rate or a larger penalty."
            )
        ids = []
        for raw, label, seed in zip(from_unit(images, self._dtype), labels, seeds, strict=True):
            if not 0 <= label < len(self._class_names):
                raise ValueError(f"label {label} is not one of {len(self._class_names)} classes")
            name = sample_id(self._checkpoint_digest, label, seed)
            if name in self._ids:
                raise ValueError(f"image {name} is already in the pool")
            shard, index = self._writer.write(
                {"image": raw, "label": label, "sample_id": name, "group": "", "synthetic": True}
            )
            self._ids.add(name)
            self._rows.append((shard, index, name, int(label), int(seed)))
            ids.append(name)
        return ids

    def close(self) -> None:
        """Write the manifest and metadata and move the pool to its place."""
        with self._stack:  # leaves through atomic_dir: renames on success, deletes on an exception
            if not self._rows:
                raise UserError(f"{self._directory} would be an empty pool; ask for images.")
            self._rows.sort()
            shard, index, ids, labels, seeds = zip(*self._rows, strict=True)
            count = len(ids)
            shards.write_metadata(
                self._aside,
                [self._writer],
                name=NAME,
                features=self._features,
                description="Synthetic images; see manifest.parquet.",
            )
            tables.write_parquet(
                self._aside / MANIFEST,
                {
                    "sample_id": ids,
                    "label": np.array(labels, np.int64),
                    "class_name": [self._class_names[label] for label in labels],
                    "seed": np.array(seeds, np.int64),
                    "checkpoint_digest": [self._checkpoint_digest] * count,
                    "data_digest": [self._data_digest] * count,
                    "synthetic": np.ones(count, bool),
                    "shard": np.array(shard, np.int64),
                    "index": np.array(index, np.int64),
                },
            )

    def __enter__(self) -> "PoolWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._stack.__exit__(kind, error, trace)


class Pool:
    """A pool on disk: `data.records.Records` with ``synthetic`` true, and its manifest.

    Attributes:
        records: the images.
        manifest: Arrow table, row i describes image i.
    """

    def __init__(self, records: ArrayRecords | StoredRecords, manifest: pa.Table) -> None:
        self.records, self.manifest = records, manifest
        self.labels, self.ids, self.groups = records.labels, records.ids, records.groups
        self.class_names, self.image_shape = records.class_names, records.image_shape
        self.dtype, self.synthetic = records.dtype, True

    def __len__(self) -> int:
        return len(self.records)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """See `data.records.Records.read`."""
        return self.records.read(indices)

    def read_raw(self, indices: np.ndarray) -> np.ndarray:
        """See `data.records.Records.read_raw`."""
        return self.records.read_raw(indices)

    def subset(self, indices: np.ndarray) -> ArrayRecords | StoredRecords:
        """See `data.records.Records.subset`."""
        return self.records.subset(indices)

    def digest(self) -> str:
        """See `data.records.Records.digest`."""
        return self.records.digest()


def open_pool(directory: str | os.PathLike[str]) -> Pool:
    """Open a pool after checking its shards and manifest.

    Raises:
        UserError: a missing, truncated or damaged file, a manifest of other images, or images that
            aren't marked synthetic; the message names the file.
    """
    records = open_records(directory, SPLIT)
    path = pathlib.Path(directory) / MANIFEST
    manifest = tables.read_table(path)
    expected = {"sample_id": records.ids.tolist(), "label": records.labels.tolist()}
    for column, values in expected.items():
        found = manifest[column].to_pylist() if column in manifest.column_names else None
        if found != values:
            raise UserError(
                f"{path} does not describe the images beside it (column {column}); "
                "generate the pool again."
            )
    if not records.synthetic:
        raise UserError(f"{directory} holds real images, not a pool; give a generated pool.")
    return Pool(records, manifest)
