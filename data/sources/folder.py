"""Image files that Pillow reads, and .npy files: class folders, or a folder and a table."""

import pathlib
from collections.abc import Iterator

from data import images as image_files
from data.errors import RefusedError, UserError
from data.sources import labels, masks, tiff
from data.sources.raw import Decoded, Entry, Listing, Options, Picture


def list_folder(path: pathlib.Path, folder: pathlib.Path, options: Options) -> Listing:
    """PATH/<class>/<image>, PATH/<split>/<class>/<image>, or images anywhere with a table.

    Raises:
        UserError: as `labels.entries`.
    """
    entries, names = labels.entries(path, _image_files, options.labels, "folder", folder)
    return Listing(entries, names, decode, "folder", str(path))


def _image_files(folder: pathlib.Path) -> Iterator[str]:
    kinds = (*image_files.EXTENSIONS, ".npy")
    return labels.visible_files(folder, lambda name: name.lower().endswith(kinds))


def decode(entry: Entry) -> Decoded:
    """The image of a file with its mask, or all pages of a TIFF.

    Raises:
        RefusedError: as `masks.attached`, `data.images.read_image`, `read_array` and `tiff.decode`.
    """
    try:
        path = pathlib.Path(entry.file)
        if path.suffix.lower() in tiff.SUFFIXES:
            return tiff.decode(entry)
        read = image_files.read_array if path.suffix.lower() == ".npy" else image_files.read_image
        return Decoded([masks.attached(Picture(read(path)), entry)])
    except UserError as error:
        raise RefusedError(str(error).removeprefix(f"{entry.file} ")) from None
