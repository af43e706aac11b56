"""One .npz file in the layout of MedMNIST."""

import dataclasses
import pathlib
import zipfile
import zlib

import numpy as np

from data import marks
from data.errors import UserError, reason
from data.sources import limits
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
        if labels.dtype.kind not in "iu" or labels.size == 0 or labels.ndim == 0:
            raise UserError(
                f"{path}: {prefix}labels are {labels.size} values of type {labels.dtype}; give one "
                "integer per image."
            )
        splits[split] = Raw(
            images=_nhwc(arrays[f"{prefix}images"], path, f"{prefix}images"),
            labels=labels,
            ids=_ids(path, arrays, prefix, split, len(labels)),
            class_names=[],
            groups=arrays.get(f"{prefix}groups", arrays.get(f"{prefix}patients")),
        )
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise UserError(f"{path}: class_names are no list; give one name per class.")
        names = [str(name) for name in arrays["class_names"]]
    else:
        names = [str(k) for k in range(1 + max(int(raw.labels.max()) for raw in splits.values()))]
    return {split: dataclasses.replace(raw, class_names=names) for split, raw in splits.items()}


def _check_sizes(path: pathlib.Path) -> None:
    """Refuse, before memory is taken, arrays that the file can't hold or that dwarf it.

    Raises:
        UserError: there is such an array.
        zipfile.BadZipFile, ValueError: the file is damaged.
    """
    size, total = path.stat().st_size, 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            total += member.file_size
            why = limits.complaint(total, size)
            if why is not None:
                raise UserError(f"{path} {why}; save it again without compression.")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                    version, np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(file)
                if min(shape, default=1) < 0 or (
                    limits.product((*shape, dtype.itemsize)) > member.file_size
                ):
                    raise ValueError(f"{member.filename} promises {shape} values")


def _ids(
    path: pathlib.Path, arrays: dict[str, np.ndarray], prefix: str, split: str, count: int
) -> list[str]:
    """Names of the images of a split, which tell the synthetic ones among them."""
    ids = arrays.get(f"{prefix}ids", np.array([f"{split}-{i:06d}" for i in range(count)]))
    flags = arrays.get(f"{prefix}synthetic", np.zeros(count, bool))
    flags = np.repeat(flags, count) if flags.ndim == 0 else flags
    for name, column in (("ids", ids), ("synthetic", flags)):
        if column.shape != (count,):
            raise UserError(
                f"{path} has {count} {prefix}labels but {prefix}{name} of shape {column.shape}; "
                "give one per image."
            )
    pairs = zip(ids, flags, strict=True)
    return [marks.PREFIX + str(name) if flag else str(name) for name, flag in pairs]


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path} is missing; give the file with {FLAG}=npz:PATH.")
    try:
        _check_sizes(path)
        # numpy leaves a file it opened itself open when it turns out damaged
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (
        ValueError,
        TypeError,
        OSError,
        EOFError,
        NotImplementedError,  # a compression that Python does not know
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
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
