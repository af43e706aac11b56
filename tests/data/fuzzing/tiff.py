"""TIFF files with absurd directories, and TIFF bombs."""

import struct

import numpy as np

from tests.data.fuzzing.arrays import NUMBERS
from tests.tiff_files import tiff


def absurd_tiff(rng: np.random.Generator, content: bytes) -> bytes:
    """An entry of the first directory with another type, count or value, or another next one."""
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", content[4:8])
    (count,) = struct.unpack(order + "H", content[start : start + 2])
    number = NUMBERS[rng.integers(len(NUMBERS))]
    place = start + 2 + 12 * int(rng.integers(count + 1))
    if place == start + 2 + 12 * count:  # where the next directory begins
        new = struct.pack(order + "I", number)
    elif rng.random() < 0.5:
        place, new = place + 2, struct.pack(order + "HI", rng.integers(16), number)
    else:
        place, new = place + 8, struct.pack(order + "I", number)
    return content[:place] + new + content[place + len(new) :]


def bomb_tiff(rng: np.random.Generator, content: bytes) -> bytes:
    """Pages that are 360 MB together, or one of 3.6 GB, in a few hundred kilobytes."""
    del content
    if rng.random() < 0.5:
        return tiff([np.zeros((6000, 6000), np.uint8)] * 10, deflate=True)
    return tiff([np.zeros((6000, 6000), np.uint8)], deflate=True, tags=[{256: 60000, 257: 60000}])
