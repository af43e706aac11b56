"""Image files that Pillow reads, and .npy files: class folders, or a folder and a table."""

import pathlib

from data import images as image_files
from data.errors import UserError
from data.sources import files, labels
from data.sources.raw import Options, Raw, Report


def open_folder(path: pathlib.Path, size: int, options: Options) -> tuple[dict[str, Raw], Report]:
    """PATH/<class>/<image>, PATH/<split>/<class>/<image>, or images anywhere with a table.

    Raises:
        UserError: as `labels.entries` and `files.read`.
    """
    entries, names, decoder = listing(path, options)
    return files.read(path, entries, names, decoder, kind="folder", size=size, options=options)


def listing(path: pathlib.Path, options: Options) -> files.Listing:
    """The files, the class names, and how a file is read; raises as `labels.entries`."""
    return *labels.entries(path, _image_files, options.labels, "folder"), _decode


def _image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    visible = labels.visible_files(folder)
    return [p for p in visible if p.suffix.lower() in (*image_files.EXTENSIONS, ".npy")]


def _decode(entry: labels.Entry) -> files.Decoded:
    try:
        read = image_files.read_array if entry.file.suffix == ".npy" else image_files.read_image
        return files.Decoded([files.Picture(read(entry.file))])
    except UserError as error:
        raise files.RefusedError(str(error).removeprefix(f"{entry.file} ")) from None
