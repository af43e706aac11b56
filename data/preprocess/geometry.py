"""Steps that change the frame of an image: which part of it is seen, and in how many pixels."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data import images
from data.errors import RefusedError, UserError
from data.preprocess.image import Image, Undo

FITS = ("stretch", "pad", "crop")


@dataclasses.dataclass(frozen=True)
class Resize:
    """To the size of the records, with antialiasing.

    Attributes:
        size: of all sides, or of each, pixels.
        fit: 'stretch' changes the aspect ratio; 'pad' adds black at both ends of what is too short
            before, and 'crop' takes the middle.
    """

    size: int | tuple[int, ...]
    fit: str = "stretch"
    in_units = False

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UserError(f"resize can {', '.join(FITS)}")

    def __call__(self, image: Image) -> tuple[Image, Undo]:
        """Resize; undone up to the detail that smaller images do not have."""
        shape = image.values.shape[:-1]
        frame = self._frame(shape)
        framed = image if frame == shape else _framed(image, _middle(shape, frame), frame)
        return _resized(framed, self._target(len(shape))), {"shape": list(shape)}

    def undo(self, image: Image, undo: Undo) -> Image:
        """The original frame; what 'crop' cut off is black."""
        shape = tuple(undo["shape"])
        frame = self._frame(shape)
        resized = _resized(image, frame)
        if frame == shape:
            return resized
        return _framed(resized, tuple(-x for x in _middle(shape, frame)), shape)

    def _target(self, axes: int) -> tuple[int, ...]:
        return (self.size,) * axes if isinstance(self.size, int) else self.size

    def _frame(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """What is resized: the image, or a frame around or in it with the aspect of the target."""
        if self.fit == "stretch":
            return shape
        target = self._target(len(shape))
        ratios = [n / size for n, size in zip(shape, target, strict=True)]
        ratio = max(ratios) if self.fit == "pad" else min(ratios)
        return tuple(max(1, round(ratio * size)) for size in target)


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
        known = len(image.spacing) > 0 and np.isfinite(image.spacing).all()
        if not (known and min(image.spacing) > 0):
            raise RefusedError("does not tell its pixel spacing, which resample needs")
        shape = image.values.shape[:-1]
        wanted = np.rint(np.multiply(shape, image.spacing) / self.spacing).astype(int).clip(1)
        return _resized(image, tuple(wanted.tolist())), {"shape": list(shape)}

    def undo(self, image: Image, undo: Undo) -> Image:
        """The original pixels, up to the detail that larger ones do not have."""
        return _resized(image, tuple(undo["shape"]))


@dataclasses.dataclass(frozen=True)
class Centre:
    """Crop or pad to a square or cube around the centre of mass of what is brighter than black."""

    size: int
    in_units = False

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and self.size > 0):
            raise UserError("centre needs a whole number of pixels above 0")

    def __call__(self, image: Image) -> tuple[Image, Undo]:
        """Cut it out; black where it leaves the image."""
        shape = image.values.shape[:-1]
        mass = np.abs(image.values.astype(np.float64) - image.darkest).sum(axis=-1)
        middle = [(n - 1) / 2 for n in shape]
        if mass.sum() > 0:
            others = [tuple({*range(mass.ndim)} - {axis}) for axis in range(mass.ndim)]
            middle = [
                float((np.arange(n) * mass.sum(axis=other)).sum() / mass.sum())
                for n, other in zip(shape, others, strict=True)
            ]
        corner = tuple(round(x - (self.size - 1) / 2) for x in middle)
        undo = {"shape": list(shape), "corner": list(corner)}
        return _framed(image, corner, (self.size,) * len(shape)), undo

    def undo(self, image: Image, undo: Undo) -> Image:
        """The original frame, exact inside the square and black outside."""
        return _framed(image, tuple(-x for x in undo["corner"]), tuple(undo["shape"]))


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


def _resized(image: Image, shape: tuple[int, ...]) -> Image:
    zooms = [a / b for a, b in zip(image.values.shape[:-1], shape, strict=True)]
    spacing = tuple(s * zoom for s, zoom in zip(image.spacing, zooms, strict=False))
    # Edges stay where they are, so the centre of the first voxel does not.
    affine = _moved(image.affine, zooms, [(zoom - 1) / 2 for zoom in zooms])
    values = images.resize(image.values, shape)
    mask = None if image.mask is None else images.nearest(image.mask, shape)
    return image.replace(values=values, spacing=spacing, affine=affine, mask=mask)


def _moved(
    affine: np.ndarray | None, zooms: Sequence[float], start: Sequence[float]
) -> np.ndarray | None:
    """The affine of voxels that are `zooms` times as large, the first of them at `start`."""
    if affine is None:
        return None
    step = np.eye(4)
    axes = range(3 - len(zooms), 3)  # an image is the slice 0 of its volume
    step[axes, axes], step[axes, 3] = zooms, start
    return affine @ step


def _middle(shape: tuple[int, ...], frame: tuple[int, ...]) -> tuple[int, ...]:
    """Where a frame begins that has the same middle."""
    return tuple((n - side) // 2 for n, side in zip(shape, frame, strict=True))


def _framed(image: Image, corner: tuple[int, ...], shape: tuple[int, ...]) -> Image:
    """The frame of a shape that begins at a corner, which may lie outside: there it is black.

    Its mask is 0 there.
    """
    affine = _moved(image.affine, [1.0] * len(shape), corner)
    values = _cut(image.values, corner, (*shape, image.values.shape[-1]), image.darkest)
    mask = None if image.mask is None else _cut(image.mask, corner, shape, 0)
    return image.replace(affine=affine, values=values, mask=mask)


def _cut(
    array: np.ndarray, corner: tuple[int, ...], shape: tuple[int, ...], outside: float
) -> np.ndarray:
    """The part of an array that begins at a corner of its first axes."""
    part = np.full(shape, outside, array.dtype)
    inside, there = [], []
    for start, length, size in zip(corner, shape, array.shape, strict=False):
        first, last = max(start, 0), min(start + length, size)
        if first >= last:
            return part
        inside.append(slice(first - start, last - start))
        there.append(slice(first, last))
    part[tuple(inside)] = array[tuple(there)]
    return part
