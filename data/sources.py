"""Where real images come from: a tfds data set, a MedMNIST-style .npz file, or class folders."""

import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data import images as image_files
from data.errors import UserError, reason
from data.records import ArrayRecords

_FLAG = "--config.data.source"
# Names of splits as sources spell them, and ours.
_SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Source:
    """Real images of one origin.

    Attributes:
        splits: records by split: 'train', 'val', 'test', or 'all' for a source without splits.
        spec: what `open_source` was given; used in messages.
    """

    splits: dict[str, ArrayRecords]
    spec: str = "source"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return next(iter(self.splits.values())).class_names

    def digest(self) -> str:
        """SHA-256 over every split's name and digest, in the order of their names."""
        parts = [f"{name}:{self.splits[name].digest()}" for name in sorted(self.splits)]
        return hashlib.sha256(",".join(parts).encode()).hexdigest()


def open_source(spec: str, *, data_dir: str | os.PathLike[str], size: int, channels: int) -> Source:
    """Open real images and bring them to one size and number of channels, at their own bit depth.

    Args:
        spec: 'tfds:NAME[/CONFIG]', 'npz:PATH' or 'folder:PATH'.
        data_dir: where tfds keeps data sets.
        size: height and width, pixels; other sizes are resized with antialiasing.
        channels: 1 (grey) and 3 (RGB) are made from each other; any other number must be what an
            npz file has.

    Raises:
        UserError: a source, file or class that is missing, damaged, empty or out of range.
    """
    kind, _, where = spec.partition(":")
    openers: dict[str, Callable[[], dict[str, _Raw]]] = {
        "tfds": lambda: _open_tfds(where, data_dir),
        "npz": lambda: _open_npz(pathlib.Path(where).expanduser()),
        "folder": lambda: _open_folder(pathlib.Path(where).expanduser()),
    }
    if kind not in openers or not where:
        raise UserError(f"{_FLAG}={spec} is none of tfds:NAME, npz:PATH and folder:PATH.")
    splits = {
        name: _to_records(raw, f"{where} ({name})", size, channels)
        for name, raw in openers[kind]().items()
    }
    if len({records.dtype for records in splits.values()}) > 1:
        raise UserError(f"{where} mixes bit depths between splits; convert them to one.")
    for name, records in splits.items():
        present = np.bincount(
            records.labels[records.labels >= 0], minlength=len(records.class_names)
        )
        if (present == 0).any():
            empty = records.class_names[int(np.argmin(present))]
            raise UserError(
                f"{where}: class '{empty}' has no images in split '{name}'; "
                "add some or leave the class out."
            )
    return Source(splits, spec)


@dataclasses.dataclass(frozen=True)
class _Raw:
    """One split as read: images [H, W, C] of any size, one array or a list of them."""

    images: Sequence[np.ndarray] | np.ndarray
    labels: np.ndarray
    ids: Sequence[str] | np.ndarray
    class_names: Sequence[str]
    groups: Sequence[str] | np.ndarray | None = None


def _to_records(raw: _Raw, where: str, size: int, channels: int) -> ArrayRecords:
    """Resize, set the channels and validate."""
    if len(raw.images) == 0:
        raise UserError(f"{where} holds no images.")
    for found in {image.shape[-1] for image in raw.images}:
        if found != channels and {found, channels} != {1, 3}:
            raise UserError(
                f"{where} has images of {found} channels, --config.data.channels={channels} can't "
                f"be made of them; set it to {found}."
            )
    if isinstance(raw.images, np.ndarray) and raw.images.shape[1:3] == (size, size):
        images = image_files.set_channels(raw.images, channels)
    else:
        images = np.stack(
            [image_files.set_channels(image_files.resize(x, size), channels) for x in raw.images]
        )
    return ArrayRecords(images, raw.labels, raw.ids, raw.class_names, raw.groups, where=where)


# --- tfds ----------------------------------------------------------------------------------------


def _open_tfds(name: str, data_dir: str | os.PathLike[str]) -> dict[str, _Raw]:
    import tensorflow_datasets as tfds

    from data.builders import digits

    if name == digits.VrnDigits.name:
        builder = tfds.builder_from_directory(digits.prepare(data_dir))
    else:
        builder = _prepared_builder(name, data_dir)
    features = builder.info.features
    image_key = _feature_of(features, tfds.features.Image, name, "an image")
    label_key = _feature_of(features, tfds.features.ClassLabel, name, "a class label")
    id_key, group_key = (
        next((key for key in keys if key in features), None)
        for keys in (("id", "sample_id", "file_name"), ("group", "patient", "patient_id"))
    )
    splits = {}
    for split in builder.info.splits:
        if split not in _SPLITS and len(builder.info.splits) > 1:
            continue  # such as an unlabelled or extra split
        try:
            rows = list(builder.as_data_source(split))
        except (RuntimeError, ValueError, OSError, NotImplementedError) as error:
            raise UserError(
                f"tfds:{name} in {data_dir} can't be read ({reason(error)}); delete its folder and "
                "prepare it again with file_format=array_record."
            ) from error
        splits[_SPLITS.get(split, "all")] = _Raw(
            images=[row[image_key] for row in rows],
            labels=np.array([row[label_key] for row in rows], np.int64),
            ids=[_text(row[id_key]) if id_key else f"{split}-{i}" for i, row in enumerate(rows)],
            class_names=features[label_key].names,
            groups=[_text(row[group_key]) for row in rows] if group_key else None,
        )
    return splits


def _prepared_builder(name: str, data_dir: str | os.PathLike[str]) -> Any:
    """A tfds builder whose data are on disk in array_record form, downloaded if need be."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(
            name, data_dir=os.fspath(data_dir), file_format="array_record", try_gcs=False
        )
        # Google's prepared copies are tfrecord files, which have no random access.
        own_copy = tfds.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(download_config=own_copy)
    except tfds.core.registered.DatasetNotFoundError:
        raise UserError(
            f"{_FLAG}=tfds:{name}: tfds knows no data set of this name; see "
            "https://www.tensorflow.org/datasets/catalog or use npz:PATH or folder:PATH."
        ) from None
    except Exception as error:  # downloads fail in many ways, none of them ours
        raise UserError(
            f"{_FLAG}=tfds:{name} could not be prepared in {data_dir} ({reason(error)})."
        ) from error
    return builder


def _feature_of(features: Any, kind: type, name: str, what: str) -> str:
    """Name of the first feature of a kind."""
    for key, feature in features.items():
        if isinstance(feature, kind):
            return key
    raise UserError(
        f"{_FLAG}=tfds:{name} has no feature that is {what} (it has {', '.join(features)}); "
        "use a data set for image classification."
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# --- npz -----------------------------------------------------------------------------------------


def _open_npz(path: pathlib.Path) -> dict[str, _Raw]:
    """MedMNIST layout: {train,val,test}_images [N, H, W(, C)], _labels [N(, 1)].

    Optional: _ids, _groups (or _patients) [N] and class_names [K]. Keys without a split name
    (images, labels, …) make one split 'all'.
    """
    arrays = _read_npz(path)
    prefixes = {f"{name}_": split for name, split in _SPLITS.items() if f"{name}_images" in arrays}
    if not prefixes and "images" in arrays:
        prefixes = {"": "all"}
    if not prefixes:
        raise UserError(
            f"{path} has no train_images (it has {', '.join(arrays)}); give a MedMNIST-style file."
        )
    splits = {}
    for prefix, split in prefixes.items():
        if f"{prefix}labels" not in arrays:
            raise UserError(f"{path} has {prefix}images but no {prefix}labels; add them.")
        labels = arrays[f"{prefix}labels"]
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.dtype.kind not in "iu" or labels.size == 0:
            raise UserError(
                f"{path}: {prefix}labels are {labels.size} values of type {labels.dtype}; give one "
                "integer per image."
            )
        splits[split] = _Raw(
            images=_nhwc(arrays[f"{prefix}images"], path, f"{prefix}images"),
            labels=labels,
            ids=arrays.get(f"{prefix}ids", [f"{split}-{i:06d}" for i in range(len(labels))]),
            class_names=[],
            groups=arrays.get(f"{prefix}groups", arrays.get(f"{prefix}patients")),
        )
    if "class_names" in arrays:
        names = [str(name) for name in arrays["class_names"]]
    else:
        names = [str(k) for k in range(1 + max(int(raw.labels.max()) for raw in splits.values()))]
    return {split: dataclasses.replace(raw, class_names=names) for split, raw in splits.items()}


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path} is missing; give the file with {_FLAG}=npz:PATH.")
    try:
        # numpy leaves a file it opened itself open when it turns out damaged
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is no whole .npz file of plain arrays ({reason(error)}); fetch it again."
        ) from None


def _nhwc(images: np.ndarray, path: pathlib.Path, key: str) -> np.ndarray:
    """Add the channel axis if there is none, and check it."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise UserError(f"{path}: {key} has shape {images.shape}; give [N, H, W] or [N, H, W, C].")
    return images.astype(np.float32) if images.dtype.kind == "f" else images


# --- folder --------------------------------------------------------------------------------------


def _open_folder(path: pathlib.Path) -> dict[str, _Raw]:
    """PATH/<class>/<image> or PATH/<split>/<class>/<image>; class_names.txt may fix the order."""
    if not path.is_dir():
        raise UserError(f"{path} is no folder; give one with {_FLAG}=folder:PATH.")
    roots = {_SPLITS[child.name]: child for child in _subfolders(path) if child.name in _SPLITS}
    roots = roots or {"all": path}
    names = _class_names(path, roots.values())
    splits = {}
    for split, root in roots.items():
        files, labels = [], []
        for label, name in enumerate(names):
            here = _image_files(root / name)
            if not here:
                raise UserError(
                    f"{root / name} holds no images; class '{name}' is empty: "
                    "add some or leave the class out."
                )
            files += here
            labels += [label] * len(here)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            arrays = list(pool.map(image_files.read_image, files))
        for file, array in zip(files, arrays, strict=True):
            if array.dtype != arrays[0].dtype:
                raise UserError(
                    f"{file} is {array.dtype} but {files[0]} is {arrays[0].dtype}; "
                    "convert the folder to one bit depth."
                )
        splits[split] = _Raw(
            images=arrays,
            labels=np.array(labels, np.int64),
            ids=[file.relative_to(path).as_posix() for file in files],
            class_names=names,
        )
    return splits


def _subfolders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _class_names(path: pathlib.Path, roots: Any) -> list[str]:
    """Names in label order: as listed in class_names.txt, otherwise sorted."""
    listing = path / "class_names.txt"
    if listing.is_file():
        return [line.strip() for line in listing.read_text().splitlines() if line.strip()]
    names = sorted({child.name for root in roots for child in _subfolders(root)})
    if not names:
        raise UserError(f"{path} has no class folders; put the images of each class into one.")
    return names


def _image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    if not folder.is_dir():
        return []
    return sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in image_files.EXTENSIONS and not p.name.startswith(".")
    )
