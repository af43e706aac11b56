"""One .npz file in the layout of MedMNIST."""

import contextlib
import functools
import pathlib
import shutil
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from data import tables
from data.errors import UserError, reason
from data.sources.raw import FLAG, SPLITS, Decoded, Entry, Listing, Picture


def list_npz(path: pathlib.Path, folder: pathlib.Path) -> Listing:
    """MedMNIST layout: {train,val,test}_images [N, H, W(, C)], _labels [N(, 1)].

    Optional: _ids, _groups (or _patients) [N] and class_names [K]. Keys without a split name
    (images, labels, …) make one split 'all'.

    Args:
        path: the file.
        folder: takes the arrays of images as files, from which rows can be read one by one.

    Raises:
        UserError: a missing or damaged file, or arrays that are not as above.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; give the file with {FLAG}=npz:PATH.")
    # numpy leaves a file it opened itself open when it turns out damaged
    with _reading(path), path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        images = {key: folder / f"{key}.npy" for key in file.files if _is_images(key)}
        for target in images.values():
            _extract(path, target)
            np.load(target, mmap_mode="r", allow_pickle=False)  # whole, and of plain numbers
        arrays = {key: file[key] for key in file.files if key not in images}
    splits = {SPLITS[name]: f"{name}_" for name in SPLITS if f"{name}_images" in images}
    if not splits and "images" in images:
        splits = {"all": ""}
    if not splits:
        keys = ", ".join([*images, *arrays])
        raise UserError(f"{path} has no train_images (it has {keys}); give a MedMNIST-style file.")
    entries: list[Entry] = []
    for split, prefix in splits.items():
        key = f"{prefix}images"
        entries += _entries(path, images[key], arrays, prefix, split)
    if "class_names" in arrays:
        names = [str(name) for name in arrays["class_names"]]
    else:
        names = [str(k) for k in range(1 + max(entry.label for entry in entries))]
    return Listing(entries, names, decode, "npz", str(path))


def decode(entry: Entry) -> Decoded:
    """One row of a file of images."""
    images = _open(entry.file)
    pixels = np.array(images[entry.row])
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
    return Decoded([Picture(pixels if pixels.ndim == 3 else pixels[..., None])])


@functools.lru_cache(maxsize=4)
def _open(file: str) -> np.ndarray:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _is_images(key: str) -> bool:
    return key == "images" or key.removesuffix("_images") in SPLITS


def _entries(
    path: pathlib.Path,
    file: pathlib.Path,
    arrays: dict[str, np.ndarray],
    prefix: str,
    split: str,
) -> Iterator[Entry]:
    """The rows of one split, checked as far as that goes without reading images."""
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
    shape = np.load(file, mmap_mode="r", allow_pickle=False).shape
    if len(shape) not in (3, 4):
        raise UserError(
            f"{path}: {prefix}images has shape {shape}; give [N, H, W] or [N, H, W, C]."
        )
    count = shape[0]
    ids = arrays.get(f"{prefix}ids", np.array([f"{split}-{i:06d}" for i in range(count)]))
    groups = arrays.get(f"{prefix}groups", arrays.get(f"{prefix}patients"))
    for name, column in (("labels", labels), ("ids", ids), ("groups", groups)):
        if column is not None and column.shape != (count,):
            raise UserError(
                f"{path} ({split}) has {count} images but {name} of shape {column.shape}; "
                "give one per image."
            )
    for row in range(count):
        yield Entry(
            file=str(file),
            name=str(ids[row]),
            label=int(labels[row]),
            split=split,
            group="" if groups is None else str(groups[row]),
            row=row,
        )


def _extract(path: pathlib.Path, target: pathlib.Path) -> None:
    """Copy an array out of the archive, checking its bytes on the way; nothing if that is done."""
    if target.exists():
        return
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(target.name) as member,
        tables.atomic_file(target) as aside,
        aside.open("wb") as out,
    ):
        shutil.copyfileobj(member, out, 1 << 20)


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    """Turn what goes wrong with a damaged archive into a `UserError`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is no whole .npz file of plain arrays ({reason(error)}); fetch it again."
        ) from None
