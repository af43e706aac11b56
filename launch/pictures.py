"""Sample sheets as PNG files."""

import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from data import marks
from data.tables import atomic_file

_LEAST_TILE = 64  # pixels
_NAME_WIDTH = 80


def sheet(images: np.ndarray, columns: int) -> np.ndarray:
    """Tiles `[N, H, W, C]` in [-1, 1] into one uint8 picture, row by row, with a 1-pixel gap.

    One or three channels are shown as they are; of any other number the first is shown.
    """
    if images.shape[-1] not in (1, 3):
        images = images[..., :1]
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    canvas = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = to_uint8(image)
    return canvas


def named_rows(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """One row of tiles per name, with the name before it, as a uint8 picture `[H, W, 1 or 3]`.

    Args:
      rows: name -> images `[N, H, W, C]` in [-1, 1], all of one shape; small ones are enlarged by a
        whole factor.
    """
    count, height = next(iter(rows.values())).shape[:2]
    zoom = max(1, _LEAST_TILE // height)
    tiles = np.concatenate(list(rows.values())).repeat(zoom, axis=1).repeat(zoom, axis=2)
    picture = sheet(tiles, count)
    names = Image.new("L", (_NAME_WIDTH, len(picture)))
    for index, name in enumerate(rows):
        # At the middle of the left edge of its row.
        place = (4, index * (height * zoom + 1) + height * zoom // 2)
        ImageDraw.Draw(names).text(place, name, fill=255, anchor="lm")
    column = np.asarray(names)[..., None].repeat(picture.shape[-1], axis=-1)
    return np.concatenate([column, picture], axis=1)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Maps [-1, 1] to 0..255 for showing."""
    return np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)


def save_png(path: pathlib.Path, picture: np.ndarray, *, synthetic: bool = False) -> None:
    """Writes a uint8 picture `[H, W, 1 or 3]`, atomically; marked if it is one synthetic image."""
    image = Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
    with atomic_file(path) as aside:
        info = PngInfo()
        if synthetic:
            info.add_text(marks.PNG_KEY, marks.PNG_YES)
        image.save(aside, "PNG", pnginfo=info)
