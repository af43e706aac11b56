"""NIfTI-1 files of one slice, in the units of the source where these are known."""

import gzip
import json
import pathlib

import nibabel as nib
import numpy as np

from data import marks
from data.export.about import About, check_channels

SUFFIX = ".nii.gz"


def check(shape: tuple[int, int, int], bits: int) -> None:
    """Raise a UserError for colours."""
    check_channels(shape[2], (1,), "nifti", "npy")


def write(path: pathlib.Path, image: np.ndarray, about: About, bits: int) -> None:
    """Write stored pixels [H, W, 1] in their own type.

    The slice lies as a viewer shows axial ones: rows from anterior, columns from the patient's
    right. scl_slope and scl_inter turn stored values into those of the source. The extension says
    what image it is, and of which values the stored range is made.
    """
    del bits
    low, high = (
        (-1.0, 1.0) if image.dtype == np.float32 else (0.0, float(np.iinfo(image.dtype).max))
    )
    volume = nib.Nifti1Image(image[::-1, ::-1, 0].T[..., None], np.eye(4), dtype=image.dtype)
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
