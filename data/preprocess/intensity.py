"""Steps that choose which values of a file become black and white; [-1, 1] in training.

What lies outside is clipped and lost; inside, the way back from a pixel is exact to half a quantum:
value = low + pixel / top * (high - low), with the `low` and `high` kept for every image.
"""

import dataclasses

import numpy as np

from data.errors import UserError
from data.preprocess.image import Image, Undo


class Intensity:
    """A step on values in the units of the file, which changes no shape."""

    in_units = True

    def undo(self, image: Image, undo: Undo) -> Image:
        """The image itself: `low` and `high` tell what its pixels stand for."""
        del undo
        return image


@dataclasses.dataclass(frozen=True)
class Window(Intensity):
    """Values from centre - width / 2 to centre + width / 2, or those of the header's window.

    DICOM PS3.3 C.11.2.1.3.2 (LINEAR_EXACT). Without arguments and without a window in the header,
    the image stays as it is.
    """

    centre: float | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if (self.centre is None) != (self.width is None) or (
            self.width is not None and self.width <= 0
        ):
            raise UserError("window needs a centre and a width above 0, or nothing")

    def __call__(self, image: Image) -> tuple[Image, Undo]:
        """Clip to the window."""
        if self.centre is not None and self.width is not None:
            return _clipped(image, self.centre - self.width / 2, self.centre + self.width / 2), {}
        if np.isfinite(image.window).all():
            return _clipped(image, *sorted(image.window)), {}
        return image, {}


@dataclasses.dataclass(frozen=True)
class ClipPercentile(Intensity):
    """Values between two percentiles of the image, in %."""

    lowest: float
    highest: float

    def __post_init__(self) -> None:
        if not 0 <= self.lowest < self.highest <= 100:
            raise UserError("clip_percentile needs two percentages, from 0 to 100 and ascending")

    def __call__(self, image: Image) -> tuple[Image, Undo]:
        """Clip to the percentiles."""
        low, high = np.percentile(image.values, (self.lowest, self.highest))
        return _clipped(image, float(low), float(high)), {}


@dataclasses.dataclass(frozen=True)
class Scale(Intensity):
    """The lowest and highest value become black and white: of the image, or of the data set."""

    of: str

    def __post_init__(self) -> None:
        if self.of not in ("image", "dataset"):
            raise UserError("scale is of the image or of the dataset")

    def __call__(self, image: Image) -> tuple[Image, Undo]:
        """Set the range to that of the image; that of a data set is known when all are read."""
        return _ranged(image, float(image.values.min()), float(image.values.max())), {}


def _clipped(image: Image, low: float, high: float) -> Image:
    return _ranged(image.replace(values=np.clip(image.values, low, high)), low, high)


def _ranged(image: Image, low: float, high: float) -> Image:
    """The image with another range, dark and bright exchanged where they are."""
    low, high = (high, low) if image.low > image.high else (low, high)
    return image.replace(low=low, high=high)
