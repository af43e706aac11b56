"""NIfTI volumes: each slice along an axis is one grey image of 16 bits, or the whole is one."""

import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np

from data import marks
from data.errors import RefusedError
from data.sources import labels, limits
from data.sources import volume as volumes_lib
from data.sources.raw import AXES, VOLUME, Decoded, Entry, Listing, Options, Picture

_TOP = 65535
_ELSEWHERE = 0.05  # mm that a mask may be off its volume, at its corner and at each voxel


def list_nifti(path: pathlib.Path, folder: pathlib.Path, options: Options) -> Listing:
    """PATH/<class>/<volume>, PATH/<split>/<class>/<volume>, or volumes anywhere with a table.

    The slices of a file are one group, as are those of a patient that the table names.

    Raises:
        UserError: as `labels.entries`.
    """
    entries, names = labels.entries(path, _volumes, options.labels, "nifti", folder)
    across = functools.partial(decode, axis=options.axis)
    return Listing(entries, names, across, "nifti", str(path))


def _volumes(folder: pathlib.Path) -> Iterator[str]:
    return labels.visible_files(folder, lambda x: x.lower().endswith((".nii", ".nii.gz")))


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
    volume = _load(entry.file)
    volumes = volume.shape[3] if len(volume.shape) == 4 else 1
    stored, affine = _canonical(volume)
    slope, inter = volume.dataobj.slope, volume.dataobj.inter
    found = [_range(plane * slope + inter) for plane in _planes(stored)]
    low = min((x for x, _ in found), default=np.inf)
    high = max((x for _, x in found), default=-np.inf)
    if not low < high:
        raise RefusedError("has the same value everywhere")
    low, high = _exported_range(volume) or (low, high)
    bits = 8 * volume.get_data_dtype().itemsize
    pixels = np.empty(stored.shape, np.uint16)
    for place, plane in zip(pixels, _planes(stored), strict=True):
        values = plane * slope + inter
        unit = (np.where(np.isfinite(values), values, low) - low) / (high - low)
        place[...] = np.rint(np.clip(unit, 0, 1) * _TOP)
    mask = _mask(entry, stored.shape, affine) if entry.mask else None
    if axis == VOLUME:
        known = {"low": low, "high": high, "bits": bits, "mask": mask}
        whole = volumes_lib.picture(pixels, affine, **known)
        return Decoded([whole], owner=f"file\0{entry.name}", more_volumes=volumes > 1)
    flat = [i for i, side in enumerate(pixels.shape) if side == 1]
    across = flat[0] if len(flat) == 1 else AXES.index(axis)  # a file of one slice is that slice
    planes = np.moveaxis(pixels, across, 0)
    masks = [None] * len(planes) if mask is None else list(np.moveaxis(mask, across, 0))
    places = [_place(affine, pixels.shape, across, i) for i in range(len(planes))]
    varied = [i for i, plane in enumerate(planes) if plane.min() < plane.max()]
    return Decoded(
        [
            _picture(planes[i], places[i], masks[i], frame=i, low=low, high=high, bits=bits)
            for i in varied
        ],
        owner=f"file\0{entry.name}",
        blank=len(planes) - len(varied),
        more_volumes=volumes > 1,
    )


def _load(file: str) -> nib.Nifti1Image:
    """The volume of a file, none of it in memory yet."""
    volume = nib.load(file)
    if len(volume.shape) not in (3, 4):
        raise RefusedError(f"has {len(volume.shape)} dimensions, not 3 or 4")
    if volume.get_data_dtype().kind not in "iuf":
        raise RefusedError(f"has voxels of type {volume.get_data_dtype()}, not numbers")
    needed = limits.product((*volume.shape[:3], volume.get_data_dtype().itemsize))
    why = limits.complaint(needed, os.path.getsize(file))
    if why is not None:
        raise RefusedError(why)
    return volume


def _mask(entry: Entry, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """The mask [*shape] uint8 of a volume, turned as that is.

    Raises:
        RefusedError: a file that is no mask, or one of another place.
    """
    name = pathlib.PurePath(entry.mask).name
    try:
        volume = _load(entry.mask)
        stored, placed = _canonical(volume)
    except Exception as error:  # damaged files fail in many ways, none of them ours
        raise RefusedError(f"has a mask that can't be read ({name}: {error})") from None
    if stored.shape != shape or not np.allclose(placed, affine, atol=_ELSEWHERE):
        raise RefusedError(f"has a mask of another size, or that lies elsewhere ({name})")
    mask = np.empty(shape, np.uint8)
    for place, plane in zip(mask, _planes(stored), strict=True):
        values = plane * volume.dataobj.slope + volume.dataobj.inter
        place[...] = np.clip(np.nan_to_num(values), 0, 255)
        if not np.array_equal(place, values):
            raise RefusedError(f"has a mask of other values than 0 to 255 ({name})")
    return mask


def _canonical(volume: nib.Nifti1Image) -> tuple[np.ndarray, np.ndarray]:
    """First volume as it is stored, its axes to the right, anterior and superior; its affine."""
    proxy = volume.dataobj
    unscaled = (proxy.shape, proxy.dtype, proxy.offset, 1.0, 0.0)
    stored = nib.arrayproxy.ArrayProxy(proxy.file_like, unscaled)[..., *[0] * (proxy.ndim - 3)]
    turn = nib.orientations.io_orientation(volume.affine)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(turn, stored.shape)
    return nib.orientations.apply_orientation(stored, turn), affine


def _planes(stored: np.ndarray) -> Iterator[np.ndarray]:
    """One float64 plane of a volume at a time: the whole would take up to eight times the file."""
    return (plane.astype(np.float64) for plane in stored)


def _range(values: np.ndarray) -> tuple[float, float]:
    finite = np.isfinite(values)
    return (
        float(values.min(where=finite, initial=np.inf)),
        float(values.max(where=finite, initial=-np.inf)),
    )


def _place(affine: np.ndarray, shape: tuple[int, ...], across: int, frame: int) -> np.ndarray:
    """The affine [4, 4] of slice `frame` as `_picture` turns it, from (slice, row, column)."""
    first, second = (axis for axis in range(3) if axis != across)
    turn = np.zeros((4, 4))
    turn[across, 0], turn[second, 1], turn[first, 2] = 1, -1, -1
    turn[[across, second, first, 3], 3] = frame, shape[second] - 1, shape[first] - 1, 1
    return affine @ turn


def _picture(
    plane: np.ndarray,
    affine: np.ndarray,
    mask: np.ndarray | None,
    *,
    low: float,
    high: float,
    **known: Any,
) -> Picture:
    """A slice as it lies in a viewer, of pixels that stand for `low` to `high`."""
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    lowest, highest = (low + float(x) / _TOP * (high - low) for x in (plane.min(), plane.max()))
    return Picture(
        plane.T[::-1, ::-1, None],
        low=low, high=high, minimum=lowest, maximum=highest, spacing=spacing, affine=affine,
        mask=None if mask is None else mask.T[::-1, ::-1], **known,
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
