"""Folders of array_record shards that TensorFlow Datasets opens: the on-disk form of all images.

A folder holds ``<name>-<split>.array_record-0000i-of-0000n``, tfds' own ``features.json``,
``dataset_info.json`` and ``label.labels.txt``, and our ``digests.json`` (records and
SHA-256 of every shard). None of it needs TensorFlow. Random access needs ``group_size:1``.

Records are the `tf.train.Example` that tfds' features describe. The encoder here is made for these
five features, and protobuf itself decodes: tfds' own, for any features, take ten times as long.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from data import tables
from data.errors import UserError, reason

DIGESTS = "digests.json"
_VERSION = "1.0.0"
# Compressing saves a sixth of the space of grey images, one by one, and costs more than all else
# that writing and reading them does.
_OPTIONS = "group_size:1,uncompressed"


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


def encode(image: np.ndarray, label: int, sample_id: str, group: str, synthetic: bool) -> bytes:
    """Serialise one record of `make_features`; the same record always gives the same bytes."""
    pixels, name, patient = image.tobytes(), sample_id.encode(), group.encode()
    entries = (
        _text_head("group", len(patient)),
        patient,
        _text_head("image", len(pixels)),
        pixels,
        _number("label", int(label)),
        _text_head("sample_id", len(name)),
        name,
        _number("synthetic", int(synthetic)),
    )
    return _head(1, sum(map(len, entries))) + b"".join(entries)


# The wire format of protocol buffers: a field is its number and type, its length, its content. In
# an Example, features.feature is a map, so each feature is an entry of a key (1) and a value (2);
# the value is a list of texts (1) or of numbers (3), and the list's only field is 1.


def _varint(number: int) -> bytes:
    """An integer, seven bits a byte, lowest first; negative ones as 64-bit two's complement."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


@functools.cache
def _head(field: int, length: int) -> bytes:
    """What comes before the content of a field of that many bytes."""
    return _varint(field << 3 | 2) + _varint(length)


@functools.cache
def _text_head(key: str, length: int) -> bytes:
    """What comes before a text of that many bytes, the only value of a feature."""
    item = _head(1, length)
    texts = _head(1, len(item) + length) + item
    return _entry_head(key, len(texts) + length) + texts


@functools.cache
def _number(key: str, value: int) -> bytes:
    """A feature with one number."""
    packed = _varint(value)
    numbers = _head(1, len(packed)) + packed
    feature = _head(3, len(numbers)) + numbers
    return _entry_head(key, len(feature)) + feature


def _entry_head(key: str, length: int) -> bytes:
    """What comes before the value of a map entry, a message of that many bytes."""
    start = _head(1, len(key)) + key.encode() + _head(2, length)
    return _head(1, len(start) + length) + start


class ShardWriter:
    """Writes one array_record file.

    Attributes:
        path: the file.
        count: records written so far.
        num_bytes: their total length.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.count, self.num_bytes = path, 0, 0
        self._writer = array_record_module.ArrayRecordWriter(str(path), _OPTIONS)

    def write(self, records: Sequence[bytes]) -> None:
        """Append records.

        Raises:
            UserError: the disk is full.
        """
        for record in records:
            self._writer.write(record)
            self.num_bytes += len(record)
        self.count += len(records)
        if not self._writer.ok():
            self.close()

    def close(self) -> None:
        """Finish the file; nothing if that is done.

        Raises:
            UserError: the disk is full.
        """
        if self._writer.is_open():
            try:
                self._writer.close()
            except RuntimeError as error:
                raise UserError(
                    f"{self.path} could not be written ({reason(error)}); free some space or "
                    "give another --workdir."
                ) from error

    def abandon(self) -> None:
        """Stop writing and delete the file."""
        with contextlib.suppress(UserError):  # the error that led here is the one to be told
            self.close()
        self.path.unlink(missing_ok=True)

    def entry(self) -> dict[str, Any]:
        """What `write_metadata` must know of the closed file: records, bytes and SHA-256."""
        digest = tables.file_sha256(self.path)
        return {"records": self.count, "bytes": self.num_bytes, "sha256": digest}


def shard_path(
    directory: pathlib.Path, name: str, split: str, index: int, count: int
) -> pathlib.Path:
    """The file of shard ``index`` of ``count``, as tfds names it."""
    template = _template(directory, name, split)
    return pathlib.Path(template.sharded_filepath(shard_index=index, num_shards=count))


def _template(directory: pathlib.Path, name: str, split: str) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=name, split=split, filetype_suffix="array_record"
    )


def write_metadata(
    directory: pathlib.Path,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    name: str,
    features: tfds.features.FeaturesDict,
    description: str,
    others: Sequence[str] = (),
) -> None:
    """Add tfds' metadata and the digests, so that the folder is complete.

    Args:
        directory: holds the closed shards.
        splits: split to the entries of its shards, in order.
        name: tfds dataset name.
        features: of one record.
        description: text for tfds' metadata.
        others: names of further files in the folder that belong to these images.
    """
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(_VERSION), data_dir=str(directory), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features, description=description)
    info.set_file_format("array_record")
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[entry["records"] for entry in entries],
            num_bytes=sum(entry["bytes"] for entry in entries),
            filename_template=_template(directory, name, split),
        )
        for split, entries in splits.items()
    ]
    info.set_splits(tfds.core.splits.SplitDict(infos))
    info.write_to_directory(str(directory))
    files: dict[str, dict[str, Any]] = {}
    for split, entries in splits.items():
        for index, entry in enumerate(entries):
            path = shard_path(directory, name, split, index, len(entries))
            files[path.name] = {key: entry[key] for key in ("records", "sha256")}
    files |= {other: {"sha256": tables.file_sha256(directory / other)} for other in others}
    tables.write_json(directory / DIGESTS, {"files": files})


@dataclasses.dataclass(frozen=True)
class StoredSplit:
    """One verified split of a folder: its tfds data source and what its metadata say.

    Attributes:
        source: tfds random-access source of records as `make_features` describes them.
        image_shape: (H, W, C).
        dtype: storage type of the pixels.
        class_names: names in label order.
    """

    source: Any
    image_shape: tuple[int, int, int]
    dtype: np.dtype
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Decode the records at ``indices``: image, label, sample_id, group and synthetic.

        Raises:
            UserError: a shard is damaged in the middle.
        """
        return [
            {
                "image": np.frombuffer(feature["image"].bytes_list.value[0], self.dtype).reshape(
                    self.image_shape
                ),
                "label": feature["label"].int64_list.value[0],
                "sample_id": feature["sample_id"].bytes_list.value[0],
                "group": feature["group"].bytes_list.value[0],
                "synthetic": feature["synthetic"].int64_list.value[0],
            }
            for feature in self._decode(indices)
        ]

    def read_images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images [n, H, W, C] in the storage dtype at ``indices``; see `read`."""
        pixels = [f["image"].bytes_list.value[0] for f in self._decode(indices)]
        joined = np.frombuffer(bytearray().join(pixels), self.dtype)  # one copy, and writable
        return joined.reshape(len(pixels), *self.image_shape)

    def _decode(self, indices: Sequence[int] | np.ndarray) -> list[Mapping[str, Any]]:
        folder = self.source.dataset_info.data_dir
        try:
            stored = self.source.data_source.__getitems__([int(i) for i in indices])
            return [tf_example_pb2.Example.FromString(one).features.feature for one in stored]
        except (RuntimeError, ValueError, IndexError, DecodeError) as error:
            raise UserError(
                f"{folder} holds a damaged shard ({reason(error)}); make the folder again."
            ) from error


def read_digests(directory: pathlib.Path) -> dict[str, dict[str, Any]]:
    """File name to its SHA-256 and, for shards, number of records."""
    return tables.read_json(directory / DIGESTS)["files"]


def has_split(directory: pathlib.Path, split: str) -> bool:
    """Whether a folder that was written here holds a split."""
    return any(directory.glob(f"*-{split}.array_record-*"))


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
    digests = read_digests(directory)
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
