"""Volumes as records: their voxels in one order, whatever that of the file, and where they lie."""

from typing import Any

import nibabel as nib
import numpy as np

from data.sources.raw import Picture

# Directions in which the axes of a record run: superior, posterior, left. So its slices lie as
# axial ones do in a viewer, and are those of DICOM's own coordinates.
_AXES = nib.orientations.axcodes2ornt("SPL")


def picture(
    pixels: np.ndarray, affine: np.ndarray, mask: np.ndarray | None = None, **known: Any
) -> Picture:
    """A volume of grey voxels in any order.

    Args:
        pixels: uint8 or uint16, of three axes that run in any directions of the patient.
        affine: [4, 4], from indices of these axes to mm to the right, anterior and superior.
        mask: uint8, as large as `pixels`.
        known: further fields of `Picture`; without the lowest and highest value they are those of
            the pixels, which stand for `low` to `high`.

    Raises:
        ValueError: an affine without three directions.
    """
    given = nib.orientations.io_orientation(affine)
    if np.isnan(given).any() or not np.isfinite(affine).all():
        raise ValueError("its axes have no three directions")
    turn = nib.orientations.ornt_transform(given, _AXES)
    turned = nib.orientations.apply_orientation(pixels, turn)
    if mask is not None:
        mask = np.ascontiguousarray(nib.orientations.apply_orientation(mask, turn))
    placed = affine @ nib.orientations.inv_ornt_aff(turn, pixels.shape)
    top, low, high = np.iinfo(pixels.dtype).max, known["low"], known["high"]
    ends = (low + float(x) / top * (high - low) for x in (pixels.min(), pixels.max()))
    lowest, highest = sorted(ends)
    values = {"minimum": lowest, "maximum": highest} | known
    spacing = tuple(np.linalg.norm(placed[:3, :3], axis=0).tolist())
    return Picture(
        np.ascontiguousarray(turned)[..., None], spacing=spacing, affine=placed, mask=mask, **values
    )
