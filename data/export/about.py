"""What an exported file says of its image."""

import dataclasses
from typing import Any

import numpy as np

from data.errors import UserError
from data.records import from_unit, to_unit

_TYPES = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16)}


@dataclasses.dataclass(frozen=True)
class About:
    """One image.

    Attributes:
        name: of its file, without suffix.
        class_name: '' without a label.
        synthetic: whether a network made it.
        facts: further lines of provenance, {English words without spaces: text}.
        owner: digest that images of one patient share, translations of them too; '' where unknown,
            or where a network made the image of noise.
        group: digest of the set it belongs to.
        low, high: values that the lowest and the highest pixel stand for; NaN where unknown.
        software: name and version of this program.
        spacing: mm between slices, rows and columns; NaN where unknown.
        affine: [4, 4] from (d, h, w, 1) to mm to the right, anterior and superior; d is 0 for
            images; None where unknown.
    """

    name: str
    class_name: str
    synthetic: bool
    facts: dict[str, str]
    owner: str
    group: str
    low: float
    high: float
    software: str
    spacing: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    affine: np.ndarray | None = None

    def description(self) -> str:
        """One sentence for readers."""
        if "TargetDomain" in self.facts:
            return "Synthetic image that a neural network made of a real one; not for diagnosis."
        if self.synthetic:
            return "Synthetic image made by a neural network; not an image of a patient."
        return "Real image, resized and requantised for machine learning; not for diagnosis."

    def as_json(self) -> dict[str, Any]:
        """Everything for a sidecar or an extension."""
        return {
            "vrn": 1,
            "synthetic": self.synthetic,
            "description": self.description(),
            "class": self.class_name,
            "software": self.software,
            **self.facts,
        }

    def has_units(self) -> bool:
        """Whether it is known what pixels stand for."""
        return bool(np.isfinite([self.low, self.high]).all()) and self.low != self.high

    def has_spacing(self) -> bool:
        """Whether it is known how far apart rows and columns are; some headers say 0 mm."""
        return all(np.isfinite(x) and x > 0 for x in self.spacing[1:])


def quantised(image: np.ndarray, bits: int) -> np.ndarray:
    """Stored pixels (any storage type) with so many bits; more bits keep every value apart."""
    dtype = _TYPES[bits]
    return image if image.dtype == dtype else from_unit(to_unit(image), dtype)


def depth(dtype: np.dtype) -> int:
    """Bits that keep what is stored: float images get 16."""
    return 8 if dtype == np.uint8 else 16


def check_shape(
    shape: tuple[int, ...], allowed: tuple[int, ...], kind: str, others: str, *, whole: bool = False
) -> None:
    """Raise a UserError for images, or volumes, that a format can't hold.

    Args:
        shape: (H, W, C), or (D, H, W, C) of volumes.
        allowed: numbers of channels.
        kind: the format.
        others: a format that can hold all.
        whole: whether the format holds volumes.
    """
    channels = shape[-1]
    if len(shape) == 4 and not whole:
        raise UserError(f"--format={kind} can't hold volumes; use --format=nifti or npy.")
    if channels not in allowed:
        raise UserError(
            f"--format={kind} can't hold images of {channels} channels; use --format={others}."
        )
