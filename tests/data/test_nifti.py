import pathlib
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from data.errors import RefusedError, UserError
from data.sources import AXES, Options, Source, nifti
from data.sources.labels import Entry
from data.splits import make_splits

from .conftest import read_source

TOP = 65535


def _decode(path: pathlib.Path, axis: str = "axial"):
    return nifti.decode(Entry(path, path.name, 0, "all"), axis)


def _open(root: pathlib.Path, size: int = 8, **options) -> Source:
    spec = f"nifti:{root}"
    return read_source(spec, data_dir="", size=size, channels=1, options=Options(**options))


def _save(path: pathlib.Path, values: np.ndarray, affine=None, slope: float = 1, inter: float = 0):
    volume = nib.Nifti1Image(values, np.eye(4) if affine is None else affine)
    volume.header.set_slope_inter(slope, inter)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(volume, path)
    return path


def test_slices_lie_as_in_a_viewer(tmp_path):
    """One bright voxel at the patient's right, front and top: 4 x 5 x 6 voxels, axes R, A, S."""
    values = (
        np.tile(np.arange(6, dtype=np.int16), (4, 5, 1)) + np.arange(5, dtype=np.int16)[:, None]
    )
    values[3, 4, 5] = 100
    path = _save(tmp_path / "a.nii", values)
    found = {axis: list(_decode(path, axis).pictures) for axis in AXES}
    assert {axis: len(x) for axis, x in found.items()} == {"sagittal": 4, "coronal": 5, "axial": 6}
    for axis, shape, frame in (
        ("axial", (5, 4, 1), 5), ("coronal", (6, 4, 1), 4), ("sagittal", (6, 5, 1), 3),
    ):  # fmt: skip
        last = found[axis][-1]
        assert last.frame == frame
        assert last.pixels.shape == shape
        # right, or front, at the left; front, or top, at the top
        assert last.pixels[0, 0, 0] == TOP
        assert (last.pixels == TOP).sum() == 1


def test_orientation_of_the_file_does_not_matter(tmp_path, rng):
    values = rng.integers(0, 1000, (4, 5, 6), dtype=np.int16)
    plain = _decode(_save(tmp_path / "a.nii", values)).pictures
    turned = nib.Nifti1Image(values, np.eye(4)).as_reoriented(
        nib.orientations.axcodes2ornt("PSL", (("L", "R"), ("P", "A"), ("I", "S")))
    )
    nib.save(turned, tmp_path / "b.nii.gz")
    assert nib.load(tmp_path / "b.nii.gz").shape != (4, 5, 6)
    again = _decode(tmp_path / "b.nii.gz").pictures
    assert len(plain) == 6
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_scaling_first_volume_and_range(tmp_path, rng):
    values = rng.integers(0, 1000, (4, 5, 6, 3), dtype=np.int16)
    path = _save(tmp_path / "a.nii", values, slope=0.5, inter=-7)
    found = _decode(path)
    assert found.more_volumes
    first = values[..., 0] * 0.5 - 7
    low, high = first.min(), first.max()
    for picture in found.pictures:
        assert (picture.low, picture.high) == (low, high)
        expected = (first[:, :, picture.frame].T[::-1, ::-1] - low) / (high - low) * TOP
        np.testing.assert_allclose(picture.pixels[..., 0], expected, atol=0.5 + 1e-6)


def test_blank_slices_and_values_that_are_not_finite(tmp_path, rng):
    values = rng.random((4, 5, 6)).astype(np.float32)
    values[:, :, [0, 4]] = 0.25
    values[1, 1, 1] = np.nan
    found = _decode(_save(tmp_path / "a.nii", values))
    assert found.blank == 2
    assert [x.frame for x in found.pictures] == [1, 2, 3, 5]
    assert found.pictures[0].pixels[3, 2, 0] == 0
    assert found.pictures[0].high == np.nanmax(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4, 5), np.int16), "has 2 dimensions"),
        (np.zeros((4, 5, 6), np.int16), "the same value everywhere"),
        (np.zeros((4, 5, 6), np.complex64), "voxels of type complex64"),
        (np.full((4, 5, 6), np.nan, np.float32), "the same value everywhere"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path, values, words):
    with pytest.raises(RefusedError, match=words):
        _decode(_save(tmp_path / "a.nii", values))


def test_folders_groups_and_unreadable_files(tmp_path, rng, truncate):
    for label in ("a", "b"):
        for i in range(6):
            values = rng.integers(0, 999, (8, 8, 3), dtype=np.int16)
            values[..., 0] = 0
            _save(tmp_path / label / f"{i}.nii.gz", values)
    truncate(tmp_path / "b" / "5.nii.gz")
    source = _open(tmp_path)
    records = source.splits["all"]
    assert records.dtype == np.uint16
    assert records.ids[0] == "a/0.nii.gz#1"
    assert len(records) == 22
    assert len(set(records.groups)) == 11
    assert source.report.blank == 11
    assert list(source.report.unreadable) == ["b/5.nii.gz"]
    made = make_splits(source, val_fraction=0.2, test_fraction=0.2, real_per_class=0, seed=0)
    groups = [set(getattr(made, name).groups) for name in ("train", "val", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 11


def test_an_empty_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="class 'a' is empty"):
        _open(tmp_path)


# --- real files


@pytest.mark.parametrize(
    "name",
    [
        "nifti/anatomical.nii", "nifti/functional.nii", "nifti/example4d.nii.gz",
        "nifti/someones_anatomy.nii.gz", "lgg_nifti/TCGA_CS_4941_flair.nii.gz",
    ],
)  # fmt: skip
def test_real_values_are_nibabels(volumes, name):
    path = volumes / name
    volume = nib.load(path)
    values = nib.as_closest_canonical(volume).get_fdata()
    values = values[..., 0] if values.ndim == 4 else values
    low, high = values.min(), values.max()
    for k, axis in enumerate(AXES):
        found = _decode(path, axis)
        assert found.more_volumes == (len(volume.shape) == 4 and volume.shape[3] > 1)
        assert len(found.pictures) + found.blank == values.shape[k]
        for picture in found.pictures:
            plane = values.take(picture.frame, axis=k).T[::-1, ::-1]
            expected = (plane - low) / (high - low) * TOP
            np.testing.assert_allclose(picture.pixels[..., 0], expected, atol=0.5 + 1e-6)


def test_real_volumes_with_masks(volumes, tmp_path):
    root = volumes / "lgg_nifti"
    lines = ["file,label,patient,mask"]
    for i, number in enumerate((4941, 4942, 4943)):
        name = f"TCGA_CS_{number}"
        lines.append(f"{name}_flair.nii.gz,grade {i % 2},{name},{name}_mask.nii.gz")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    source = _open(root, labels=str(tmp_path / "t.csv"), size=64)
    records = source.splits["all"]
    assert not any("mask" in name for name in records.ids)
    assert len(set(records.groups)) == 3
    assert source.class_names == ("grade 0", "grade 1")
    assert len(records) + source.report.blank == sum(
        nib.load(path).shape[2] for path in root.glob("*_flair.nii.gz")
    )


@pytest.mark.parametrize("axis", AXES)
def test_every_pixel_of_a_real_slice_is_where_its_affine_says(volumes, axis):
    for name in ("nifti/anatomical.nii", "nifti/example4d.nii.gz", "nifti/functional.nii"):
        volume = nib.load(volumes / name)
        values = volume.get_fdata()
        values = values[..., 0] if values.ndim == 4 else values
        for picture in list(_decode(volumes / name, axis).pictures)[::5]:
            rows, columns = np.indices(picture.pixels.shape[:2])
            mm = apply_affine(picture.affine, np.stack([0 * rows, rows, columns], -1))
            voxels = np.rint(apply_affine(np.linalg.inv(volume.affine), mm)).astype(int)
            shown = picture.low + picture.pixels[..., 0] / TOP * (picture.high - picture.low)
            half = (picture.high - picture.low) / TOP / 2
            np.testing.assert_allclose(
                values[tuple(np.moveaxis(voxels, -1, 0))], shown, atol=1.0001 * half
            )


@pytest.mark.parametrize("axis", ["axial", "volume"])
def test_memory_is_that_of_what_is_stored(tmp_path, rng, axis):
    """An int16 volume as float64 would take four times as much, once for each step on it."""
    values = rng.integers(-1000, 3000, (96, 96, 96), dtype=np.int16)
    path = _save(tmp_path / "a.nii.gz", values, slope=0.5, inter=3)
    _decode(path, axis)
    tracemalloc.start()
    found = list(_decode(path, axis).pictures)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == (1 if axis == "volume" else 96)
    assert peak < 3.5 * values.nbytes


def test_a_file_of_one_slice_is_that_slice(tmp_path, rng):
    values = rng.integers(0, 1000, (6, 1, 5), dtype=np.int16)
    for axis in AXES:
        (picture,) = _decode(_save(tmp_path / "a.nii", values), axis).pictures
        assert picture.pixels.shape == (5, 6, 1)
