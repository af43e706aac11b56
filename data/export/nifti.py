"""NIfTI-1 files of one slice or volume, in the units of the source where these are known."""

import gzip
import json
import pathlib

import nibabel as nib
import numpy as np

from data import marks
from data.export.about import About, check_shape

SUFFIX = ".nii.gz"


def check(shape: tuple[int, ...], bits: int) -> None:
    """Raise a UserError for colours."""
    check_shape(shape, (1,), "nifti", "npy", whole=True)


def write(path: pathlib.Path, image: np.ndarray, about: About, bits: int) -> None:
    """Write stored pixels [H, W, 1] or [D, H, W, 1] in their own type.

    A slice lies as a viewer shows axial ones: rows from anterior, columns from the patient's right.
    A volume lies where it did. scl_slope and scl_inter turn stored values into those of the source.
    The extension says what image it is, and of which values the stored range is made.
    """
    del bits
    low, high = (
        (-1.0, 1.0) if image.dtype == np.float32 else (0.0, float(np.iinfo(image.dtype).max))
    )
    volume = _volume(image, about.affine)
    facts = about.as_json() | {"range": [low, high]}
    if about.has_units():
        slope = (about.high - about.low) / (high - low)
        inter = about.low - low * slope
        # What readers of float32 slopes will compute from the ends.
        slope, inter = float(np.float32(slope)), float(np.float32(inter))
        facts["range"] = [low * slope + inter, high * slope + inter]
        volume.header.set_slope_inter(slope, inter)
    header = volume.header
    header["descrip"] = (marks.NIFTI_TEXT if about.synthetic else about.description())[:79].encode()
    text = json.dumps(facts).encode()
    header.extensions.append(nib.nifti1.Nifti1Extension(marks.NIFTI_CODE, text))
    content = volume.to_bytes()
    path.write_bytes(gzip.compress(content, compresslevel=6, mtime=0))


def _volume(image: np.ndarray, affine: np.ndarray | None) -> nib.Nifti1Image:
    if image.ndim == 3:
        voxels = image[::-1, ::-1, 0].T[..., None]
        return nib.Nifti1Image(voxels, np.eye(4), dtype=image.dtype)
    if affine is None:  # not known, so as records lie: to superior, posterior, left
        affine = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    # Indices as NIfTI has them, the fastest first.
    volume = nib.Nifti1Image(image[..., 0].T, affine[:, [2, 1, 0, 3]], dtype=image.dtype)
    volume.header.set_xyzt_units("mm")
    return volume
