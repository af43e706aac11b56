"""Goes through the images of a source as they are, one after another, and keeps none of them."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from data.errors import UserError
from data.sources import dicom, files, folder, nifti, npz, tfds
from data.sources.raw import FLAG, Options

_LISTINGS = {"folder": folder.listing, "dicom": dicom.listing, "nifti": nifti.listing}


@dataclasses.dataclass(frozen=True)
class Item:
    """One image, of which only what `look` made of it is left.

    Attributes:
        id: unique in its split; a path for files.
        split: 'train', 'val', 'test' or 'all'.
        label: number of its class; -1 = none given.
        group: digest or name of what must not be split (a patient), '' where unknown.
        seen: what `look` returned.
        site: as a table of labels gives it.
        columns: its further columns.
    """

    id: str
    split: str
    label: int
    group: str
    seen: Any
    site: str = ""
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A file that is not read: its relative path, and why."""

    name: str
    why: str


@dataclasses.dataclass(frozen=True)
class Walk:
    """A source that is about to be gone through.

    Attributes:
        class_names: names in label order.
        files: how many there are to read; None where images lie in one file.
        items: the images, in the order of the source.
    """

    class_names: tuple[str, ...]
    files: int | None
    items: Iterator[Item | Unreadable]


def walk(
    spec: str,
    look: Callable[[np.ndarray], Any],
    *,
    data_dir: str | os.PathLike[str],
    options: Options,
) -> Walk:
    """Open a source to go through its images at their own size and depth.

    Args:
        spec: as for `data.sources.open_source`.
        look: gets the pixels [H, W, C] of every image; called in several threads.
        data_dir: where tfds keeps data sets.
        options: how folders of files are read.

    Raises:
        UserError: a source that is missing, or a table of labels that does not fit it.
    """
    kind, _, where = spec.partition(":")
    path = pathlib.Path(where).expanduser()
    if kind in _LISTINGS:
        listing = _LISTINGS[kind](path, options)
        if not listing[0]:
            raise UserError(f"{path} holds no {kind} files; mend {FLAG}.")
        items = _of_files(listing, look, kind, options.salt)
        return Walk(tuple(listing[1]), len(listing[0]), items)
    raws = npz.open_npz(path) if kind == "npz" else tfds.open_tfds(where, data_dir)
    for raw in raws.values():
        if raw.labels.shape != (len(raw.images),):
            raise UserError(
                f"{where} has {len(raw.images)} images but labels of shape {raw.labels.shape}; "
                "give one per image."
            )
    names = next(iter(raws.values())).class_names
    items = (
        Item(str(raw.ids[i]), split, int(raw.labels[i]), _group(raw.groups, i), look(pixels))
        for split, raw in raws.items()
        for i, pixels in enumerate(raw.images)
    )
    return Walk(tuple(names), None, items)


def _of_files(
    listing: files.Listing, look: Callable[[np.ndarray], Any], kind: str, salt: str
) -> Iterator[Item | Unreadable]:
    entries, _, decode = listing

    def change(picture: files.Picture) -> tuple[int | None, Any]:
        return picture.frame, look(picture.pixels)

    for entry, found in files.decoded(entries, decode, change, kind):
        if isinstance(found, str):
            yield Unreadable(entry.name, found)
            continue
        for frame, seen in found.pictures:
            yield Item(
                files.image_id(entry, frame), entry.split, entry.label,
                files.group(entry, found, salt), seen, entry.site, entry.columns,
            )  # fmt: skip


def _group(groups: Any, row: int) -> str:
    return "" if groups is None else str(groups[row])
