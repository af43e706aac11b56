"""NIfTI volumes: each slice along an axis is one grey image of 16 bits."""

import functools
import pathlib

import nibabel as nib
import numpy as np

from data import marks
from data.sources import files, labels, limits
from data.sources.raw import AXES, Options, Raw, Report

_TOP = 65535


def open_nifti(path: pathlib.Path, size: int, options: Options) -> tuple[dict[str, Raw], Report]:
    """PATH/<class>/<volume>, PATH/<split>/<class>/<volume>, or volumes anywhere with a table.

    The slices of a file are one group, as are those of a patient that the table names.

    Raises:
        UserError: as `labels.entries` and `files.read`.
    """
    entries, names, decoder = listing(path, options)
    return files.read(path, entries, names, decoder, kind="nifti", size=size, options=options)


def listing(path: pathlib.Path, options: Options) -> files.Listing:
    """The files, the class names, and how a file is read; raises as `labels.entries`."""
    across = functools.partial(decode, axis=options.axis)
    return *labels.entries(path, _volumes, options.labels, "nifti"), across


def _volumes(folder: pathlib.Path) -> list[pathlib.Path]:
    visible = labels.visible_files(folder)
    return [p for p in visible if p.name.lower().endswith((".nii", ".nii.gz"))]


def decode(entry: labels.Entry, axis: str) -> files.Decoded:
    """Slices across `axis` of the volume turned so that its axes run right, anterior, superior.

    scl_slope and scl_inter are applied, and the lowest and highest value of the volume become 0 and
    65535, in files of `data.export` the ends of what was stored; values that aren't finite become
    the lowest. Slices lie as in a viewer: superior or, in axial ones, anterior up; the patient's
    right or, in sagittal ones, anterior at the left.

    Args:
        entry: the file.
        axis: one of `AXES`, across which the volume is cut.

    Raises:
        RefusedError: not 3 or 4 dimensions, colours, or no variation. Damaged files raise what
            nibabel raises.
    """
    volume = nib.load(entry.file)
    if len(volume.shape) not in (3, 4):
        raise files.RefusedError(f"has {len(volume.shape)} dimensions, not 3 or 4")
    if volume.get_data_dtype().kind not in "iuf":
        raise files.RefusedError(f"has voxels of type {volume.get_data_dtype()}, not numbers")
    needed = limits.product((*volume.shape[:3], volume.get_data_dtype().itemsize))
    why = limits.complaint(needed, entry.file.stat().st_size)
    if why is not None:
        raise files.RefusedError(why)
    volumes = volume.shape[3] if len(volume.shape) == 4 else 1
    if len(volume.shape) == 4:
        volume = volume.slicer[..., 0]
    values = nib.as_closest_canonical(volume).get_fdata(dtype=np.float64, caching="unchanged")
    finite = np.isfinite(values)
    low, high = values.min(where=finite, initial=np.inf), values.max(where=finite, initial=-np.inf)
    if not low < high:
        raise files.RefusedError("has the same value everywhere")
    low, high = _exported_range(volume) or (low, high)
    unit = np.clip((np.where(finite, values, low) - low) / (high - low), 0, 1)
    planes = np.moveaxis(np.rint(unit * _TOP).astype(np.uint16), AXES.index(axis), 0)
    varied = [i for i, plane in enumerate(planes) if plane.min() < plane.max()]
    return files.Decoded(
        [files.Picture(planes[i].T[::-1, ::-1, None], i, low, high) for i in varied],
        owner=f"file\0{entry.name}",
        blank=len(planes) - len(varied),
        more_volumes=volumes > 1,
    )


def _exported_range(volume: nib.Nifti1Image) -> tuple[float, float] | None:
    """Values that were the ends of the stored range when `data.export` wrote the file."""
    found = marks.nifti_facts(volume.header).get("range")
    if not isinstance(found, list) or len(found) != 2:
        return None
    if not all(isinstance(x, float | int) and np.isfinite(x) for x in found):
        return None
    low, high = map(float, found)
    return (low, high) if low != high else None
