"""Video files: every frame, or every n-th, is one image."""

import functools
import importlib.util
import os
import pathlib
from collections.abc import Iterator

from data.errors import RefusedError, UserError
from data.sources import labels, limits, native
from data.sources.raw import Damaged, Decoded, Entry, Listing, Options, Picture

_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv", ".flv",
)  # fmt: skip


def list_video(path: pathlib.Path, folder: pathlib.Path, options: Options) -> Listing:
    """PATH/<class>/<video>, PATH/<split>/<class>/<video>, or videos anywhere with a table.

    The frames of a file are one group, as are those of a patient that the table names.

    Raises:
        UserError: as `labels.entries`, or PyAV is missing.
    """
    if importlib.util.find_spec("av") is None:
        raise UserError(
            "video: needs PyAV, which is not installed; add the extra 'video' with: pip install "
            "-e '.[video]'."
        )
    entries, names = labels.entries(path, _videos, options.labels, "video", folder)
    strided = functools.partial(decode, stride=options.stride)
    return Listing(entries, names, strided, "video", str(path))


def _videos(folder: pathlib.Path) -> Iterator[str]:
    return labels.visible_files(folder, lambda name: name.lower().endswith(_SUFFIXES))


def decode(entry: Entry, stride: int) -> Decoded:
    """Frames 0, stride, 2 stride, … of the first video stream, decoded in another process.

    Where a file is damaged or cut short, the frames before count and the next one is named.

    Raises:
        RefusedError: not one frame can be decoded; when the first one is taken.
    """
    return Decoded(_frames(entry, stride), owner=f"file\0{entry.name}")


def _frames(entry: Entry, stride: int) -> Iterator[Picture | Damaged]:
    following = 0
    try:
        largest = limits.allowed(os.path.getsize(entry.file))
        for number, pixels in native.frames(entry.file, stride, largest):
            following = number + stride
            yield Picture(pixels, number)
    except native.DecoderError as error:
        if following == 0:
            raise RefusedError(str(error)) from None
        yield Damaged(following, str(error))
