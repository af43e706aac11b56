"""Image tiles: float32 images to PNG data URIs, all of a page with the same grey-level window."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from data.records import Records

# About how many pixels a tile is shown at: large where few classes leave room for it.
_SHOWN, _SHOWN_OF_FEW, _FEW = 64, 128, 4


@dataclasses.dataclass(frozen=True)
class Window:
    """The range of values in [-1, 1] that is spread over black to white.

    One window serves real and synthetic images alike, so that a difference in brightness or
    contrast between them stays visible.
    """

    low: float
    high: float

    @classmethod
    def of(cls, images: np.ndarray, dtype: np.dtype) -> "Window":
        """Returns the window of images [N, H, W, C] stored as `dtype`.

        Eight-bit images are shown as they are. Others (a 12-bit X-ray in 16 bits is all but black)
        are windowed from the 0.5th to the 99.5th percentile of the given images.
        """
        if np.dtype(dtype) == np.uint8:
            return cls(-1.0, 1.0)
        low, high = np.percentile(images, [0.5, 99.5])
        return cls(float(low), float(high)) if high > low else cls(-1.0, 1.0)

    @classmethod
    def of_records(cls, part: Records) -> "Window":
        """The window of a split, by 500 of its images."""
        rows = np.random.default_rng(0).permutation(len(part))[:500]
        return cls.of(part.read(rows), part.dtype)

    def told(self, dtype: np.dtype) -> str:
        """Says in stored units which grey levels are black and white."""
        if np.dtype(dtype) == np.uint8:
            return "8-bit images, shown as they are"
        low, high = self.low, self.high
        if np.dtype(dtype) == np.uint16:
            low, high = ((end + 1) * 32767.5 for end in (low, high))
            return f"16-bit images, window {low:.0f} (black) to {high:.0f} (white)"
        return f"window {low:.2f} (black) to {high:.2f} (white) of \N{MINUS SIGN}1 to 1"

    def to_uint8(self, image: np.ndarray) -> np.ndarray:
        """Maps one image [H, W, C] to uint8 [H, W] or [H, W, 3] for showing.

        Of neither one nor three channels the first is shown.
        """
        if image.shape[-1] != 3:
            image = image[..., 0]
        levels = np.rint((image - self.low) / (self.high - self.low) * 255)
        return np.clip(levels, 0, 255).astype(np.uint8)


def data_uri(picture: np.ndarray | bytes) -> str:
    """A uint8 picture, or the bytes of a PNG file, as a `data:` address."""
    if not isinstance(picture, bytes):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", optimize=True)
        picture = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")


def enlargement(size: int, classes: int) -> int:
    """The whole number by which images of `size` pixels are enlarged: no blur, no uneven pixels."""
    return max(1, round((_SHOWN_OF_FEW if classes <= _FEW else _SHOWN) / size))


@dataclasses.dataclass(frozen=True)
class Tile:
    """One picture of the page.

    Attributes:
      uri: `data:` address.
      alt: for screen readers.
      caption: a few characters under it, or nothing.
      tip: shown at a pointer: which image it is.
      kind: CSS class, e.g. `bad`.
    """

    uri: str
    alt: str
    caption: str = ""
    tip: str = ""
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Strip:
    """A titled row of tiles."""

    title: str
    tiles: list[Tile]
    note: str = ""
    kind: str = ""
