"""NIfTI-1 files of one slice or volume, in the units of the source where these are known."""

import gzip
import json
import pathlib

import nibabel as nib
import numpy as np

from data import marks
from data.export.about import About, check_shape

SUFFIX = ".nii.gz"
# From indices of NIfTI to (slice, row, column).
_FASTEST_FIRST = np.eye(4)[[2, 1, 0, 3]]


def check(shape: tuple[int, ...], bits: int) -> None:
    """Raise a UserError for colours."""
    check_shape(shape, (1,), "nifti", "npy", whole=True)


def write(path: pathlib.Path, image: np.ndarray, about: About, bits: int) -> None:
    """Write stored pixels [H, W, 1] or [D, H, W, 1] in their own type.

    Slices and volumes lie where they did; where that is not known, as axial ones do in a viewer:
    rows from anterior, columns from the patient's right. scl_slope and scl_inter turn stored values
    into those of the source. The extension says what image it is, and of which values the stored
    range is made.
    """
    del bits
    low, high = (
        (-1.0, 1.0) if image.dtype == np.float32 else (0.0, float(np.iinfo(image.dtype).max))
    )
    volume = _volume(image, about)
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


def _volume(image: np.ndarray, about: About) -> nib.Nifti1Image:
    """Voxels, and where they lie as far as that is known."""
    if image.ndim == 4:
        voxels, turn = image[..., 0].T, _FASTEST_FIRST
    else:
        voxels, turn = image[::-1, ::-1, 0].T[..., None], _FASTEST_FIRST @ np.diag([-1, -1, 1, 1])
        turn[[2, 1], 3] = image.shape[1] - 1, image.shape[0] - 1
    known = about.affine is not None or about.has_spacing()
    affine = _as_axial(about.spacing) if about.affine is None else about.affine
    volume = nib.Nifti1Image(voxels, affine @ turn, dtype=image.dtype)
    if known:
        volume.header.set_xyzt_units("mm")
    return volume


def _as_axial(spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine [4, 4] from (slice, row, column) to superior, posterior and left."""
    between_slices, rows, columns = (x if np.isfinite(x) and x > 0 else 1.0 for x in spacing)
    return np.array(
        [[0, 0, -columns, 0], [0, -rows, 0, 0], [between_slices, 0, 0, 0], [0, 0, 0, 1]]
    )
