"""Image files of every kind that Pillow reads: class folders, or a folder and a table."""

import pathlib

from data import images as image_files
from data.errors import RefusedError, UserError
from data.sources import labels
from data.sources.raw import Decoded, Entry, Listing, Options, Picture


def list_folder(path: pathlib.Path, options: Options) -> Listing:
    """PATH/<class>/<image>, PATH/<split>/<class>/<image>, or images anywhere with a table.

    Raises:
        UserError: as `labels.entries`.
    """
    entries, names = labels.entries(path, _image_files, options.labels, "folder")
    return Listing(entries, names, decode, "folder", str(path))


def _image_files(folder: pathlib.Path) -> list[str]:
    return [x for x in labels.visible_files(folder) if x.lower().endswith(image_files.EXTENSIONS)]


def decode(entry: Entry) -> Decoded:
    """The one image of a file.

    Raises:
        RefusedError: as `data.images.read_image`.
    """
    try:
        return Decoded([Picture(image_files.read_image(pathlib.Path(entry.file)))])
    except UserError as error:
        raise RefusedError(str(error).removeprefix(f"{entry.file} ")) from None
