"""Videos with absurd numbers, and frames too large for any."""

import pathlib
import struct
import tempfile

import numpy as np

from tests.data.fuzzing.arrays import NUMBERS
from tests.video_files import save_video


def absurd_video(rng: np.random.Generator, content: bytes) -> bytes:
    """Four bytes of the header, or of the table at the end, that are another number."""
    place = int(rng.integers(min(600, len(content) - 4)))
    place = place if rng.random() < 0.7 else len(content) - 4 - place
    new = struct.pack((">I", "<I")[rng.integers(2)], NUMBERS[rng.integers(len(NUMBERS))])
    return content[:place] + new + content[place + 4 :]


def bomb_video(rng: np.random.Generator, content: bytes) -> bytes:
    """A black frame of 100 megapixels."""
    del rng, content
    with tempfile.TemporaryDirectory() as folder:
        frames = np.zeros((1, 10000, 10000), np.uint8)
        return save_video(pathlib.Path(folder) / "a.mkv", frames).read_bytes()
