"""Steps that change the frame of an image: which part of it is seen, and in how many pixels."""

import dataclasses

import numpy as np

from data import images
from data.errors import RefusedError, UserError
from data.preprocess.image import Image, Undo

FITS = ("stretch", "pad", "crop")


@dataclasses.dataclass(frozen=True)
class Resize:
    """To the size of the records, with antialiasing.

    Attributes:
        size: height and width, pixels.
        fit: 'stretch' changes the aspect ratio; 'pad' adds black at both shorter sides before, and
            'crop' takes the middle.
    """

    size: int
    fit: str = "stretch"
    in_units = False

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UserError(f"resize can {', '.join(FITS)}")

    def __call__(self, image: Image) -> tuple[Image, Undo]:
        """Resize; undone up to the detail that smaller images do not have."""
        shape = image.values.shape[:2]
        side = {"stretch": None, "pad": max(shape), "crop": min(shape)}[self.fit]
        framed = image if side is None else _framed(image, _middle(shape, side), (side, side))
        return _resized(framed, (self.size, self.size)), {"shape": list(shape)}

    def undo(self, image: Image, undo: Undo) -> Image:
        """The original frame; what 'crop' cut off is black."""
        shape = tuple(undo["shape"])
        if self.fit == "stretch":
            return _resized(image, shape)
        side = max(shape) if self.fit == "pad" else min(shape)
        row, column = _middle(shape, side)
        return _framed(_resized(image, (side, side)), (-row, -column), shape)


@dataclasses.dataclass(frozen=True)
class Resample:
    """To pixels of so many millimetres, which needs files that know their spacing."""

    spacing: float
    in_units = False

    def __post_init__(self) -> None:
        if not self.spacing > 0:
            raise UserError("resample needs a spacing above 0 mm")

    def __call__(self, image: Image) -> tuple[Image, Undo]:
        """Resize so that pixels are as near to the spacing as whole numbers of them allow.

        Raises:
            RefusedError: the file does not know its spacing.
        """
        if not (np.isfinite(image.spacing).all() and min(image.spacing) > 0):
            raise RefusedError("does not tell its pixel spacing, which resample needs")
        shape = image.values.shape[:2]
        wanted = np.rint(np.multiply(shape, image.spacing) / self.spacing).astype(int).clip(1)
        return _resized(image, tuple(wanted.tolist())), {"shape": list(shape)}

    def undo(self, image: Image, undo: Undo) -> Image:
        """The original pixels, up to the detail that larger ones do not have."""
        return _resized(image, tuple(undo["shape"]))


@dataclasses.dataclass(frozen=True)
class Centre:
    """Crop or pad to a square around the centre of mass of what is brighter than black."""

    size: int
    in_units = False

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and self.size > 0):
            raise UserError("centre needs a whole number of pixels above 0")

    def __call__(self, image: Image) -> tuple[Image, Undo]:
        """Cut the square out; black where it leaves the image."""
        shape = image.values.shape[:2]
        mass = np.abs(image.values.astype(np.float64) - image.darkest).sum(axis=-1)
        middle = [(n - 1) / 2 for n in shape]
        if mass.sum() > 0:
            middle = [
                float((np.arange(n) * mass.sum(axis=1 - axis)).sum() / mass.sum())
                for axis, n in enumerate(shape)
            ]
        corner = tuple(round(x - (self.size - 1) / 2) for x in middle)
        undo = {"shape": list(shape), "corner": list(corner)}
        return _framed(image, corner, (self.size, self.size)), undo

    def undo(self, image: Image, undo: Undo) -> Image:
        """The original frame, exact inside the square and black outside."""
        row, column = undo["corner"]
        return _framed(image, (-row, -column), tuple(undo["shape"]))


@dataclasses.dataclass(frozen=True)
class DropBlank:
    """Leave out images in which fewer than a share of the pixels are not as most are."""

    share: float = 0.0
    in_units = False

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise UserError("drop_blank needs a share from 0 to less than 1")

    def __call__(self, image: Image) -> tuple[Image, Undo] | None:
        """The image itself, or None where it is left out; without a share, if all are alike."""
        flat = image.values.reshape(-1, image.values.shape[-1])
        colours, counts = np.unique(flat, axis=0, return_counts=True)
        other = 1 - counts.max() / len(flat)
        return None if len(colours) == 1 or other < self.share else (image, {})

    def undo(self, image: Image, undo: Undo) -> Image:
        """The image itself: those that were left out have none."""
        del undo
        return image


def _resized(image: Image, shape: tuple[int, int]) -> Image:
    before = image.values.shape[:2]
    spacing = tuple(s * a / b for s, a, b in zip(image.spacing, before, shape, strict=True))
    return image.replace(values=images.resize(image.values, shape), spacing=spacing)


def _middle(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Where a square of this side begins that has the same middle."""
    return (shape[0] - side) // 2, (shape[1] - side) // 2


def _framed(image: Image, corner: tuple[int, int], shape: tuple[int, int]) -> Image:
    """The frame of a shape that begins at a corner, which may lie outside: there it is black."""
    values = np.full((*shape, image.values.shape[-1]), image.darkest, image.values.dtype)
    spans = []
    for start, length, there in zip(corner, shape, image.values.shape[:2], strict=True):
        first, last = max(start, 0), min(start + length, there)
        if first >= last:
            return image.replace(values=values)
        spans.append((slice(first - start, last - start), slice(first, last)))
    values[spans[0][0], spans[1][0]] = image.values[spans[0][1], spans[1][1]]
    return image.replace(values=values)
