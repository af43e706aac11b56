"""One .npz file in the layout of MedMNIST."""

import contextlib
import functools
import pathlib
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from data import marks, tables
from data.errors import UserError, reason
from data.sources import limits
from data.sources.entries import Rows
from data.sources.raw import FLAG, SPLITS, Decoded, Entry, Listing, Picture

_CLASSES = 1 << 16  # more than anyone has; a wrong label may be any number


def list_npz(path: pathlib.Path, folder: pathlib.Path) -> Listing:
    """MedMNIST layout: {train,val,test}_images [N, H, W(, C)], _labels [N(, 1)].

    Optional: _masks [N, H, W(, 1)] uint8, _ids, _groups (or _patients), _slice_index and _synthetic
    [N], and class_names [K]. Keys without a split name (images, labels, …) make one split 'all'.

    Args:
        path: the file.
        folder: takes images and masks as files, from which rows can be read one by one.

    Raises:
        UserError: a missing or damaged file, or arrays that are not as above.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; give the file with {FLAG}=npz:PATH.")
    # numpy leaves a file it opened itself open when it turns out damaged
    with _reading(path):
        _check_sizes(path)
    with _reading(path), path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        rows = {key: folder / f"{key}.npy" for key in file.files if _is_read_by_rows(key)}
        for target in rows.values():
            _extract(path, target)
            np.load(target, mmap_mode="r", allow_pickle=False)  # whole, and of plain numbers
        arrays = {key: file[key] for key in file.files if key not in rows}
    splits = {SPLITS[name]: f"{name}_" for name in SPLITS if f"{name}_images" in rows}
    if not splits and "images" in rows:
        splits = {"all": ""}
    if not splits:
        keys = ", ".join([*rows, *arrays])
        raise UserError(f"{path} has no train_images (it has {keys}); give a MedMNIST-style file.")
    parts = [_rows(path, rows, arrays, prefix, split) for split, prefix in splits.items()]
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise UserError(f"{path}: class_names are no list; give one name per class.")
        names = [str(name) for name in arrays["class_names"]]
    else:
        highest = max(int(arrays[f"{prefix}labels"].max()) for prefix in splits.values())
        if highest >= _CLASSES:
            raise UserError(
                f"{path} has a label {highest}; number the classes from 0 on, or give class_names."
            )
        names = [str(k) for k in range(1 + highest)]
    return Listing(Rows(parts), names, decode, "npz", str(path))


def decode(entry: Entry) -> Decoded:
    """One row of a file of images, and of that of their masks."""
    images = _open(entry.file)
    pixels = np.array(images[entry.row])
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    mask = np.array(_open(entry.mask)[entry.row]) if entry.mask else None
    return Decoded([Picture(pixels, mask=None if mask is None else mask.reshape(pixels.shape[:2]))])


@functools.lru_cache(maxsize=4)
def _open(file: str) -> np.ndarray:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _is_read_by_rows(key: str) -> bool:
    split, _, what = key.rpartition("_")
    return what in ("images", "masks") and (not split or split in SPLITS)


def _rows(
    path: pathlib.Path,
    rows: dict[str, pathlib.Path],
    arrays: dict[str, np.ndarray],
    prefix: str,
    split: str,
) -> tuple[int, Callable[[int], Entry]]:
    """How many rows one split has, and what makes each; checked without reading images."""
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
    file, mask = rows[f"{prefix}images"], rows.get(f"{prefix}masks")
    shape = np.load(file, mmap_mode="r", allow_pickle=False).shape
    # Images of no pixels may be any number in no bytes.
    if len(shape) not in (3, 4) or 0 in shape:
        raise UserError(
            f"{path}: {prefix}images has shape {shape}; give [N, H, W] or [N, H, W, C]."
        )
    if mask is not None:
        found = np.load(mask, mmap_mode="r", allow_pickle=False)
        if found.dtype != np.uint8 or found.shape not in (shape[:3], (*shape[:3], 1)):
            raise UserError(
                f"{path}: {prefix}masks are {found.shape} of {found.dtype}; give one number of "
                "type uint8 for each pixel of the images."
            )
    count = shape[0]
    ids = arrays.get(f"{prefix}ids", np.array([f"{split}-{i:06d}" for i in range(count)]))
    flags = arrays.get(f"{prefix}synthetic", np.zeros(count, bool))
    flags = np.repeat(flags, count) if flags.ndim == 0 else flags
    groups = arrays.get(f"{prefix}groups", arrays.get(f"{prefix}patients"))
    slices = arrays.get(f"{prefix}slice_index")
    for name, column in (
        ("labels", labels),
        ("ids", ids),
        ("groups", groups),
        ("slice_index", slices),
        ("synthetic", flags),
    ):
        if column is not None and column.shape != (count,):
            raise UserError(
                f"{path} ({split}) has {count} images but {name} of shape {column.shape}; "
                "give one per image."
            )

    def entry(row: int) -> Entry:
        return Entry(
            file=str(file),
            name=(marks.PREFIX if flags[row] else "") + str(ids[row]),
            label=int(labels[row]),
            split=split,
            group="" if groups is None else str(groups[row]),
            row=row,
            columns={} if slices is None else {"slice_index": str(slices[row])},
            mask="" if mask is None else str(mask),
        )

    return count, entry


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
    except (
        ValueError,
        TypeError,
        KeyError,
        OSError,
        EOFError,
        NotImplementedError,  # a compression that Python does not know
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{path} is no whole .npz file of plain arrays ({reason(error)}); fetch it again."
        ) from None
