"""Sample sheets as PNG files."""

import pathlib

import numpy as np
from PIL import Image

from data.tables import atomic_file


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


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Maps [-1, 1] to 0..255 for showing."""
    return np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)


def save_png(path: pathlib.Path, picture: np.ndarray) -> None:
    """Writes a uint8 picture `[H, W, 1 or 3]`, atomically."""
    image = Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
    with atomic_file(path) as aside:
        image.save(aside, "PNG")
