"""TIFF files: every page is one image.

Pillow decodes them through libtiff: strips and tiles, 8 and 16 bits, uncompressed, PackBits, LZW,
Deflate, LZMA and Zstandard, with and without a predictor, in both byte orders.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from PIL import Image, TiffImagePlugin

from data import images
from data.errors import RefusedError, UserError, reason
from data.sources import limits, masks
from data.sources.raw import Damaged, Decoded, Entry, Picture

SUFFIXES = (".tif", ".tiff")
_BYTES = {"1": 1, "L": 1, "I;16": 2, "I;16B": 2, "RGB": 3}  # per pixel
_DESCRIPTION, _SUBFILE = 270, 254  # tags
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType: a smaller copy of another page, or its mask


def decode(entry: Entry) -> Decoded:
    """All pages but smaller copies and masks of others; a page that is damaged is told as that.

    The image of a file with one page has no number. All pages of another are one group.

    Raises:
        RefusedError: as `masks.attached`, and pages that ask for too much memory, or that the file
            does not list.
        UserError: as `data.images.read_image`.
    """
    path = pathlib.Path(entry.file)
    with contextlib.ExitStack() as opened:
        with images.named_errors(path):
            file = opened.enter_context(path.open("rb"))  # see `data.images.read_image`
            image = opened.enter_context(Image.open(file))
        if not isinstance(image, TiffImagePlugin.TiffImageFile):  # of another kind, by its content
            return Decoded([masks.attached(Picture(images.read_image(path)), entry)])
        pages, damaged = _listed(image, path)
        if len(pages) == 1 and damaged is None:
            with images.named_errors(path):
                image.seek(pages[0])
                picture = Picture(images.to_array(image, path))
            return Decoded([masks.attached(picture, entry)])
    return Decoded(_read(path, pages, damaged), owner=f"file\0{entry.name}")


def _listed(
    image: TiffImagePlugin.TiffImageFile, path: pathlib.Path
) -> tuple[list[int], Damaged | None]:
    """Numbers of the pages that are images, and the first whose directory can't be read."""
    pages, needed, size = [], 0, os.path.getsize(path)
    described = str(image.tag_v2.get(_DESCRIPTION, ""))
    number, damaged = 0, None
    while True:
        try:
            image.seek(number)
            if not int(image.tag_v2.get(_SUBFILE, 0)) & (_REDUCED | _MASK):
                pages.append(number)
                needed += limits.product((*image.size, _BYTES.get(image.mode, 4)))
        except EOFError:
            break
        except Exception as error:  # a damaged directory, which is read in many ways
            damaged = Damaged(number, f"is damaged, as may be all after it ({reason(error)})")
            break
        number += 1
    why = limits.complaint(needed, size)
    if why is not None:
        raise RefusedError(why)
    promised = re.search(r"^images=(\d+)", described, re.MULTILINE)
    if described.startswith("ImageJ=") and promised and 1 == number < int(promised[1]):
        raise RefusedError(
            f"holds {promised[1]} pages by ImageJ's own count but lists one; save it again as OME-"
            "TIFF or as single files"
        )
    if not pages and damaged is None:
        raise RefusedError("holds only smaller copies and masks of an image, and not that")
    return pages, damaged


def _read(
    path: pathlib.Path, pages: Sequence[int], damaged: Damaged | None
) -> Iterator[Picture | Damaged]:
    with path.open("rb") as file, Image.open(file) as image:
        for number in pages:
            try:
                with images.named_errors(path):
                    image.seek(number)
                    array = images.to_array(image, path)
            except UserError as error:
                yield Damaged(number, str(error).removeprefix(f"{path} "))
            except Exception as error:  # decoders fail in many ways, none of them ours
                yield Damaged(number, f"can't be decoded ({reason(error)})")
            else:
                yield Picture(array, number)
    if damaged is not None:
        yield damaged
