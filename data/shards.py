"""Folders of array_record shards that TensorFlow Datasets opens: the on-disk form of all images.

A folder holds ``<name>-<split>.array_record-0000i-of-0000n``, tfds' own ``features.json``,
``dataset_info.json`` and ``label.labels.txt``, and our ``digests.json`` (records and
SHA-256 of every shard). Serialising and reading go through tfds features, none of which needs
TensorFlow. Random access needs ``group_size:1``.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from data import tables
from data.errors import UserError, reason

DIGESTS = "digests.json"
_VERSION = "1.0.0"


def make_features(
    image_shape: tuple[int, int, int], dtype: np.dtype, class_names: Sequence[str]
) -> tfds.features.FeaturesDict:
    """The tfds features of one record.

    ``image`` is a raw tensor [H, W, C] rather than a PNG so that 16-bit and float images keep every
    bit; ``label`` is -1 when missing; ``group`` is '' when there is none.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Tensor(shape=image_shape, dtype=dtype, encoding="bytes"),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "sample_id": tfds.features.Text(),
            "group": tfds.features.Text(),
            "synthetic": tfds.features.Scalar(dtype=np.bool_),
        }
    )


class SplitWriter:
    """Writes one split's records round-robin into a fixed number of shards.

    The number of records need not be known beforehand. tfds numbers records shard after shard, so
    with several shards the reading order differs from the writing order; `write` returns the place.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        name: str,
        split: str,
        features: tfds.features.FeaturesDict,
        num_shards: int = 1,
    ) -> None:
        self.split = split
        self._features = features
        self._template = tfds.core.ShardedFileTemplate(
            data_dir=directory, dataset_name=name, split=split, filetype_suffix="array_record"
        )
        self.paths = [
            pathlib.Path(self._template.sharded_filepath(shard_index=i, num_shards=num_shards))
            for i in range(num_shards)
        ]
        self._writers = [
            array_record_module.ArrayRecordWriter(str(path), "group_size:1") for path in self.paths
        ]
        self.counts = [0] * num_shards
        self._bytes = 0

    def write(self, record: Mapping[str, Any]) -> tuple[int, int]:
        """Append one record; return its (shard, index within the shard)."""
        shard = sum(self.counts) % len(self.counts)
        serialised = self._features.serialize_example(record)
        self._writers[shard].write(serialised)
        self.counts[shard] += 1
        self._bytes += len(serialised)
        return shard, self.counts[shard] - 1

    def close(self) -> tfds.core.SplitInfo:
        """Finish the shard files and return what tfds must know about the split."""
        for writer in self._writers:
            if writer.is_open():
                writer.close()
        return tfds.core.SplitInfo(
            name=self.split,
            shard_lengths=self.counts,
            num_bytes=self._bytes,
            filename_template=self._template,
        )


def write_metadata(
    directory: pathlib.Path,
    writers: Sequence[SplitWriter],
    *,
    name: str,
    features: tfds.features.FeaturesDict,
    description: str,
) -> None:
    """Close the writers and add tfds' metadata and the digests, so that the folder is complete."""
    splits = [writer.close() for writer in writers]
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(_VERSION), data_dir=str(directory), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features, description=description)
    info.set_file_format("array_record")
    info.set_splits(tfds.core.splits.SplitDict(splits))
    info.write_to_directory(str(directory))
    files = {
        path.name: {"records": count, "sha256": tables.file_sha256(path)}
        for writer in writers
        for path, count in zip(writer.paths, writer.counts, strict=True)
    }
    tables.write_json(directory / DIGESTS, {"files": files})


@dataclasses.dataclass(frozen=True)
class StoredSplit:
    """One verified split of a folder: its tfds data source and what its metadata say.

    Attributes:
        source: tfds random-access source; ``source[i]`` is a record as `make_features` names it.
        image_shape: (H, W, C).
        dtype: storage type of the pixels.
        class_names: names in label order.
    """

    source: Any
    image_shape: tuple[int, int, int]
    dtype: np.dtype
    class_names: tuple[str, ...]

    def read(self, indices: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Decode the records at ``indices``.

        Raises:
            UserError: a shard is damaged in the middle.
        """
        try:
            return list(self.source.__getitems__([int(i) for i in indices]))
        except (RuntimeError, ValueError, IndexError) as error:
            folder = self.source.dataset_info.data_dir
            raise UserError(
                f"{folder} holds a damaged shard ({reason(error)}); make the folder again."
            ) from error


def open_split(directory: str | pathlib.Path, split: str) -> StoredSplit:
    """Open one split of a folder written by this module, after checking that it is whole.

    Raises:
        UserError: the folder or a shard is missing, truncated, damaged or not of our layout; the
            message names the file.
    """
    directory = pathlib.Path(directory)
    if not (directory / "dataset_info.json").is_file():
        raise UserError(
            f"{directory} holds no stored images (dataset_info.json is missing); "
            "give a folder made by this project or run the stage that makes it."
        )
    try:
        builder = tfds.builder_from_directory(directory)
    except Exception as error:  # tfds raises json, protobuf and attribute errors alike here
        raise UserError(
            f"{directory}/dataset_info.json or features.json is damaged ({reason(error)}); "
            "make the folder again."
        ) from error
    splits = builder.info.splits
    if split not in splits:
        raise UserError(f"{directory} has no split '{split}', only {', '.join(sorted(splits))}.")
    digests = tables.read_json(directory / DIGESTS)["files"]
    info = splits[split]
    for path, count in zip(info.filepaths, info.shard_lengths, strict=True):
        _verify_shard(pathlib.Path(path), count, digests)
    features = builder.info.features
    return StoredSplit(
        source=builder.as_data_source(split),
        image_shape=tuple(features["image"].shape),
        dtype=np.dtype(features["image"].np_dtype),
        class_names=tuple(features["label"].names),
    )


def _verify_shard(path: pathlib.Path, count: int, digests: Mapping[str, Any]) -> None:
    """Raise UserError unless the shard is there with the recorded bytes and number of records."""
    if not path.is_file():
        raise UserError(f"{path} is missing; make the folder again.")
    entry = digests.get(path.name, {})
    if entry.get("sha256") != tables.file_sha256(path):
        raise UserError(
            f"{path} is damaged or truncated (its SHA-256 is not the one in {DIGESTS}); "
            "make the folder again."
        )
    if entry.get("records") != count:
        raise UserError(
            f"{path} holds {entry.get('records')} records but dataset_info.json says {count}; "
            "make the folder again."
        )
