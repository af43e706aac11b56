"""Masks of images: where a lesion, an organ or a nucleus is, in files of their own."""

import dataclasses
import pathlib

import numpy as np

from data import images as image_files
from data.errors import RefusedError, UserError
from data.sources.raw import Entry, Picture


def attached(picture: Picture, entry: Entry) -> Picture:
    """The only image of a file with the mask that its row of the table names, if it names one.

    Raises:
        RefusedError: a mask that can't be read, has colours or more than 8 bits, or another size.
    """
    if not entry.mask:
        return picture
    path = pathlib.Path(entry.mask)
    read = image_files.read_array if path.suffix.lower() == ".npy" else image_files.read_image
    try:
        mask = read(path)
    except UserError as error:
        raise RefusedError(f"has a mask that can't be read ({error})") from None
    check(mask, picture.pixels.shape[:-1], path.name)
    return dataclasses.replace(picture, mask=mask[..., 0])


def check(mask: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    """Refuse a mask [*shape, K] that is not of one number from 0 to 255 for each pixel."""
    if mask.dtype != np.uint8 or mask.shape[-1] != 1:
        raise RefusedError(f"has a mask in colours or of more than 8 bits ({name}); save it grey")
    if mask.shape[:-1] != shape:
        sizes = (" x ".join(map(str, size)) for size in (mask.shape[:-1], shape))
        raise RefusedError("has a mask of {} pixels, not of {} ({})".format(*sizes, name))
