"""Writes records as array_record shards, one after another, in memory that does not grow."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data import checks, marks, shards, tables
from data.errors import UserError

if TYPE_CHECKING:
    from data.records import Records

# Records of a shard: what a killed run loses at most.
SHARD_ROWS = 1 << 14
# Records are read in blocks of at most this size, and of at least one record.
_BLOCK_BYTES = 1 << 22


def blocks(
    start: int, stop: int, image_shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[np.ndarray]:
    """Row numbers from ``start`` to ``stop``, in pieces of a few MB of images."""
    step = max(1, _BLOCK_BYTES // (int(np.prod(image_shape)) * dtype.itemsize))
    for first in range(start, stop, step):
        yield np.arange(first, min(first + step, stop))


def fill(
    folder: pathlib.Path,
    splits: Mapping[str, "Records"],
    *,
    name: str,
    description: str,
    shard_rows: int,
) -> None:
    """Write ``{split: records}`` into a folder, shard by shard.

    A finished shard has a hidden file with its digest, so that a call that was killed goes on with
    the next one when it is made again; `clear` deletes these files.

    Args:
        folder: holds nothing else, or what an earlier call with the same arguments left.
        splits: at least one image each, all of one shape, dtype and list of classes.
        name: tfds dataset name.
        description: text for tfds' metadata.
        shard_rows: most records of a shard; those of a split are as even as can be.

    Raises:
        UserError: an empty split, splits that don't fit together, or synthetic 'val' or 'test'.
    """
    _check_fit(folder, splits)
    entries = {}
    for split, records in splits.items():
        count = -(-len(records) // shard_rows)
        bounds = [len(records) * index // count for index in range(count + 1)]
        entries[split] = [
            _shard(folder, name, split, records, bounds, index) for index in range(count)
        ]
    first = next(iter(splits.values()))
    features = shards.make_features(first.image_shape, first.dtype, first.class_names)
    shards.write_metadata(folder, entries, name=name, features=features, description=description)


def clear(folder: pathlib.Path) -> None:
    """Delete what only `fill` needs, if it is there."""
    for entry in folder.glob(".*-[0-9]*.json"):
        entry.unlink()


def _check_fit(folder: pathlib.Path, splits: Mapping[str, "Records"]) -> None:
    first = next(iter(splits.values()))
    for split, records in splits.items():
        checks.check_split_allowed(split, records)
        if len(records) == 0:
            raise UserError(f"{folder}: the '{split}' split would be empty; leave it out.")
        for what in ("image_shape", "dtype", "class_names"):
            if getattr(records, what) != getattr(first, what):
                raise UserError(
                    f"{folder}: the '{split}' split has {what} {getattr(records, what)}, "
                    f"another has {getattr(first, what)}; they must agree."
                )


def _shard(
    folder: pathlib.Path, name: str, split: str, records: "Records", bounds: list[int], index: int
) -> dict[str, Any]:
    """Write shard ``index``, of the rows between two bounds, unless it is there; its entry."""
    done = folder / f".{split}-{index:05d}.json"
    if done.exists():
        return tables.read_json(done)
    path = shards.shard_path(folder, name, split, index, len(bounds) - 1)
    path.unlink(missing_ok=True)  # half of it, of a run that was killed
    writer = shards.ShardWriter(path)
    try:
        for rows in blocks(bounds[index], bounds[index + 1], records.image_shape, records.dtype):
            writer.write(list(_encoded(records, rows)))
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    tables.fsync(path)
    tables.write_json(done, writer.entry())
    return writer.entry()


def _encoded(records: "Records", rows: np.ndarray) -> Iterator[bytes]:
    for i, image in zip(rows, records.read_raw(rows), strict=True):
        group = "" if records.groups is None else str(records.groups[i])
        name = str(records.ids[i])
        synthetic = records.synthetic or marks.is_marked(name)
        yield shards.encode(image, records.labels[i], name, group, synthetic)
