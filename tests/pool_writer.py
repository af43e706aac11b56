"""Pools for tests, written batch by batch."""

import contextlib
import os
import pathlib
import types
from collections.abc import Sequence

import numpy as np

from data import records, tables
from data.pools import PoolShard, PoolSpec, assemble, clear


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
        """Open a new pool beside ``directory``; what is there is replaced on `close`.

        Args:
            directory: the pool's folder.
            class_names: see `PoolSpec`, like the following.
            image_shape: see there.
            dtype: see there.
            checkpoint_digest: see there.
            data_digest: see there.
            num_shards: files the images are spread over, in turn.
        """
        self._directory = pathlib.Path(directory)
        self._spec = PoolSpec(
            tuple(class_names), tuple(image_shape), np.dtype(dtype), checkpoint_digest, data_digest
        )
        self._stack = contextlib.ExitStack()
        self._aside = self._stack.enter_context(tables.atomic_dir(self._directory))
        self._shards = []
        for index in range(num_shards):
            shard = PoolShard(self._aside, self._spec, index, num_shards)
            self._stack.callback(shard.release)
            self._shards.append(shard)
        self._next = 0

    def write(self, images: np.ndarray, labels: np.ndarray, seeds: np.ndarray) -> list[str]:
        """Append a batch of floats in [-1, 1], quantised; see `PoolShard.write`."""
        images = records.from_unit(images, self._spec.dtype)
        count, turns = len(images), len(self._shards)
        names = np.empty(count, object)
        for turn in range(min(count, turns)):
            rows = slice(turn, None, turns)
            shard = self._shards[(self._next + turn) % turns]
            names[rows] = shard.write(images[rows], labels[rows], seeds[rows])
        self._next = (self._next + count) % turns
        return names.tolist()

    def close(self) -> None:
        """Write the manifest and metadata and move the pool to its place."""
        with self._stack:  # leaves through atomic_dir: renames on success, deletes on an exception
            for shard in self._shards:
                shard.close()
            assemble(self._aside, self._spec, len(self._shards))
            clear(self._aside)

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
