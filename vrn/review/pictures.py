"""Pixels as the page asks for them: of images of the study only, all in one form.

Real and synthetic images leave here with the same type and shape and under names that tell nothing.
"""

from __future__ import annotations

import dataclasses
import hmac
import threading
from collections.abc import Sequence

import numpy as np

from data import records
from data.errors import UserError

_SAMPLE = 64  # images that the first window is taken from
_CENTRES = (0.5, 99.5)  # percentiles between which it lies


@dataclasses.dataclass(frozen=True)
class Form:
    """What the bytes of every image of a study mean.

    Attributes:
      depth: slices; 1 for images.
      height: pixels.
      width: pixels.
      channels: 1 or 3.
      bits: 8 or 16, unsigned, little-endian.
      low: stored value shown black at first.
      high: stored value shown white at first.
    """

    depth: int
    height: int
    width: int
    channels: int
    bits: int
    low: int
    high: int


class Gallery:
    """The images that a study may show, by opaque names."""

    def __init__(self, sources: Sequence[records.Records], secret: bytes) -> None:
        """Opens the images.

        Args:
          sources: the pool, and real images if there are any; all of one shape.
          secret: names are made with it, so that nobody guesses which image has which.

        Raises:
          UserError: they differ in shape.
        """
        shapes = {tuple(source.image_shape) for source in sources}
        if len(shapes) != 1:
            raise UserError(f"Real and synthetic images differ in shape ({shapes}); prepare again.")
        self._sources, self._secret, self._lock = list(sources), secret, threading.Lock()
        self._place = {
            str(sample_id): (number, row)
            for number, source in enumerate(sources)
            for row, sample_id in enumerate(source.ids)
        }
        eight = all(source.dtype == np.uint8 for source in sources)
        self._dtype = np.dtype(np.uint8 if eight else np.uint16)
        *depth, height, width, channels = shapes.pop()
        self._channels = 3 if channels == 3 else 1
        self.form = Form(
            depth[0] if depth else 1, height, width, self._channels, 8 * self._dtype.itemsize,
            *self._window(),
        )  # fmt: skip

    def name(self, sample_id: str) -> str:
        """The name of an image in requests: 32 hexadecimal digits."""
        return hmac.digest(self._secret, f"image\0{sample_id}".encode(), "sha256").hex()[:32]

    def pixels(self, sample_id: str) -> bytes:
        """Pixels [depth, height, width, channels] of one image, as `form` tells.

        Of neither one nor three channels the first is sent. Floats are sent in 16 bits.
        """
        number, row = self._place[sample_id]
        return self._read(number, np.array([row])).tobytes()

    def _read(self, number: int, rows: np.ndarray) -> np.ndarray:
        source = self._sources[number]
        with self._lock:  # readers of records are not made for threads
            if source.dtype == self._dtype:
                images = source.read_raw(rows)
            else:
                images = records.from_unit(source.read(rows), self._dtype)
        return images[..., : self._channels].astype(self._dtype.newbyteorder("<"), order="C")

    def _window(self) -> tuple[int, int]:
        """Black and white at first, one pair for all images so that differences stay visible."""
        if self._dtype == np.uint8:
            return 0, 255
        values = []
        for number, source in enumerate(self._sources):
            rows = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int))
            values.append(self._read(number, rows).ravel())
        low, high = np.percentile(np.concatenate(values), _CENTRES)
        return (int(low), int(high)) if high > low else (0, 65535)
