"""NIfTI volumes: each slice along an axis is one grey image of 16 bits, or the whole is one."""

import functools
import os
import pathlib
from typing import Any

import nibabel as nib
import numpy as np

from data import marks
from data.errors import RefusedError
from data.sources import labels, limits
from data.sources import volume as volumes_lib
from data.sources.raw import AXES, VOLUME, Decoded, Entry, Listing, Options, Picture

_TOP = 65535


def list_nifti(path: pathlib.Path, options: Options) -> Listing:
    """PATH/<class>/<volume>, PATH/<split>/<class>/<volume>, or volumes anywhere with a table.

    The slices of a file are one group, as are those of a patient that the table names.

    Raises:
        UserError: as `labels.entries`.
    """
    entries, names = labels.entries(path, _volumes, options.labels, "nifti")
    across = functools.partial(decode, axis=options.axis)
    return Listing(entries, names, across, "nifti", str(path))


def _volumes(folder: pathlib.Path) -> list[str]:
    return [x for x in labels.visible_files(folder) if x.lower().endswith((".nii", ".nii.gz"))]


def decode(entry: Entry, axis: str) -> Decoded:
    """Slices across `axis` of the volume turned so that its axes run right, anterior, superior.

    scl_slope and scl_inter are applied, and the lowest and highest value of the volume become 0 and
    65535, in files of `data.export` the ends of what was stored; values that aren't finite become
    the lowest. Slices lie as in a viewer: superior or, in axial ones, anterior up; the patient's
    right or, in sagittal ones, anterior at the left.

    Args:
        entry: the file.
        axis: one of `AXES`, across which the volume is cut, or `VOLUME`.

    Raises:
        RefusedError: not 3 or 4 dimensions, colours, or no variation. Damaged files raise what
            nibabel raises.
    """
    volume = nib.load(entry.file)
    if len(volume.shape) not in (3, 4):
        raise RefusedError(f"has {len(volume.shape)} dimensions, not 3 or 4")
    if volume.get_data_dtype().kind not in "iuf":
        raise RefusedError(f"has voxels of type {volume.get_data_dtype()}, not numbers")
    needed = limits.product((*volume.shape[:3], volume.get_data_dtype().itemsize))
    why = limits.complaint(needed, os.path.getsize(entry.file))
    if why is not None:
        raise RefusedError(why)
    volumes = volume.shape[3] if len(volume.shape) == 4 else 1
    if len(volume.shape) == 4:
        volume = volume.slicer[..., 0]
    turned = nib.as_closest_canonical(volume)
    values = turned.get_fdata(dtype=np.float64, caching="unchanged")
    finite = np.isfinite(values)
    low, high = values.min(where=finite, initial=np.inf), values.max(where=finite, initial=-np.inf)
    if not low < high:
        raise RefusedError("has the same value everywhere")
    low, high = _exported_range(volume) or (low, high)
    unit = np.clip((np.where(finite, values, low) - low) / (high - low), 0, 1)
    bits = 8 * volume.get_data_dtype().itemsize
    pixels = np.rint(unit * _TOP).astype(np.uint16)
    if axis == VOLUME:
        known = {"low": low, "high": high, "bits": bits}
        whole = volumes_lib.picture(pixels, turned.affine, **known)
        return Decoded([whole], owner=f"file\0{entry.name}", more_volumes=volumes > 1)
    zooms = tuple(float(x) for x in turned.header.get_zooms()[:3])
    across = AXES.index(axis)
    column, row = (zooms[i] for i in range(3) if i != across)
    spacing = (zooms[across], row, column)
    planes = np.moveaxis(pixels, across, 0)
    varied = [i for i, plane in enumerate(planes) if plane.min() < plane.max()]
    return Decoded(
        [
            _picture(planes[i], frame=i, low=low, high=high, bits=bits, spacing=spacing)
            for i in varied
        ],
        owner=f"file\0{entry.name}",
        blank=len(planes) - len(varied),
        more_volumes=volumes > 1,
    )


def _picture(plane: np.ndarray, *, low: float, high: float, **known: Any) -> Picture:
    """A slice as it lies in a viewer, of pixels that stand for `low` to `high`."""
    lowest, highest = (low + float(x) / _TOP * (high - low) for x in (plane.min(), plane.max()))
    return Picture(
        plane.T[::-1, ::-1, None],
        low=low, high=high, minimum=lowest, maximum=highest, **known,
    )  # fmt: skip


def _exported_range(volume: nib.Nifti1Image) -> tuple[float, float] | None:
    """Values that were the ends of the stored range when `data.export` wrote the file."""
    found = marks.nifti_facts(volume.header).get("range")
    if not isinstance(found, list) or len(found) != 2:
        return None
    if not all(isinstance(x, float | int) and np.isfinite(x) for x in found):
        return None
    low, high = map(float, found)
    return (low, high) if low != high else None
