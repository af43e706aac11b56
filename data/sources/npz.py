"""One .npz file in the layout of MedMNIST."""

import dataclasses
import pathlib
import zipfile
import zlib

import numpy as np

from data import marks
from data.errors import UserError, reason
from data.sources.raw import FLAG, SPLITS, Raw


def open_npz(path: pathlib.Path) -> dict[str, Raw]:
    """MedMNIST layout: {train,val,test}_images [N, H, W(, C)], _labels [N(, 1)].

    Optional: _ids, _groups (or _patients) and _synthetic [N], and class_names [K]. Keys without a
    split name (images, labels, …) make one split 'all'.

    Raises:
        UserError: a missing or damaged file, or arrays that are not as above.
    """
    arrays = _read_npz(path)
    prefixes = {f"{name}_": split for name, split in SPLITS.items() if f"{name}_images" in arrays}
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
        splits[split] = Raw(
            images=_nhwc(arrays[f"{prefix}images"], path, f"{prefix}images"),
            labels=labels,
            ids=_ids(arrays, prefix, split, len(labels)),
            class_names=[],
            groups=arrays.get(f"{prefix}groups", arrays.get(f"{prefix}patients")),
        )
    if "class_names" in arrays:
        names = [str(name) for name in arrays["class_names"]]
    else:
        names = [str(k) for k in range(1 + max(int(raw.labels.max()) for raw in splits.values()))]
    return {split: dataclasses.replace(raw, class_names=names) for split, raw in splits.items()}


def _ids(arrays: dict[str, np.ndarray], prefix: str, split: str, count: int) -> list[str]:
    """Names of the images of a split, which tell the synthetic ones among them."""
    ids = arrays.get(f"{prefix}ids", [f"{split}-{i:06d}" for i in range(count)])
    flags = np.broadcast_to(arrays.get(f"{prefix}synthetic", False), (count,))
    pairs = zip(ids, flags, strict=True)
    return [marks.PREFIX + str(name) if flag else str(name) for name, flag in pairs]


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path} is missing; give the file with {FLAG}=npz:PATH.")
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
