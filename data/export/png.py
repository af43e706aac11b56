"""PNG of 8 or 16 bits; what the image is stands in text chunks before the pixels."""

import pathlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data import marks
from data.errors import UserError
from data.export.about import About, check_shape, quantised

SUFFIX = ".png"


def check(shape: tuple[int, ...], bits: int) -> None:
    """Raise a UserError for what PNG, or the library that writes it, can't hold."""
    check_shape(shape, (1, 3), "png", "npy")
    if shape[-1] == 3 and bits == 16:
        raise UserError("--format=png can't hold colours of 16 bits; add --bits=8 or use npy.")


def write(path: pathlib.Path, image: np.ndarray, about: About, bits: int) -> None:
    """Write stored pixels [H, W, 1 or 3]."""
    pixels = quantised(image, bits)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.save(path, "PNG", pnginfo=texts(about))


def texts(about: About) -> PngInfo:
    """The text chunks."""
    info = PngInfo()
    info.add_text(marks.PNG_KEY, marks.PNG_YES if about.synthetic else "no")
    info.add_text("Description", about.description())
    info.add_text("Software", about.software)
    for key, value in {"Class": about.class_name, **about.facts}.items():
        info.add_itxt(key, value)
    return info
