"""Volumes kept whole: NIfTI, DICOM series, their affines, and the steps on them."""

import pathlib
import warnings
import zipfile

import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine

from data import tables
from data.errors import RefusedError, UserError
from data.sources import Options, Source, nifti, open_source, series
from data.sources.raw import Entry, Picture
from data.sources.walk import Unreadable, walk
from tests.dicom_files import save_dicom, save_series

from .conftest import read_source
from .places import LPS, TOP, field, read_series, rotation


def _open(spec: str, size: int = 8, **options) -> Source:
    return read_source(
        spec, data_dir="", size=size, channels=1, options=Options(axis="volume", **options)
    )


def _units(picture: Picture) -> np.ndarray:
    top = np.iinfo(picture.pixels.dtype).max
    return picture.low + picture.pixels[..., 0] / top * (picture.high - picture.low)


def _millimetres(picture: Picture) -> np.ndarray:
    """Where every voxel [D, H, W] lies, [D, H, W, 3], to the right, anterior and superior."""
    indices = np.moveaxis(np.indices(picture.pixels.shape[:3]), 0, -1)
    return apply_affine(picture.affine, indices)


# --- NIfTI


def _nifti(path: pathlib.Path, values: np.ndarray, affine: np.ndarray) -> Picture:
    nib.save(nib.Nifti1Image(values, affine), path)
    (found,) = nifti.decode(Entry(str(path), path.name, 0, "all"), "volume").pictures
    return found


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_every_voxel_stays_where_it_is(tmp_path, rng, codes):
    values = rng.integers(-500, 900, (5, 6, 7), dtype=np.int16)
    turn = nib.orientations.axcodes2ornt(codes)
    affine = np.diag([1.5, 2, 3, 1.0]) @ nib.orientations.inv_ornt_aff(turn, values.shape)
    affine[:3, :3] @= rotation(0.2)
    affine[:3, 3] = 10, -20, 30
    found = _nifti(tmp_path / "a.nii.gz", values, affine)
    assert found.frame is None
    stored = nib.load(tmp_path / "a.nii.gz").affine
    indices = np.rint(apply_affine(np.linalg.inv(stored), _millimetres(found))).astype(int)
    quantum = (found.high - found.low) / TOP
    np.testing.assert_allclose(_units(found), values[*np.moveaxis(indices, -1, 0)], atol=quantum)
    # inferior to superior, anterior to posterior, right to left
    assert nib.aff2axcodes(found.affine) == ("S", "P", "L")


def test_slices_of_a_volume_are_axial_ones(tmp_path, rng):
    found = _nifti(tmp_path / "a.nii", rng.random((5, 6, 7)), np.diag([1, 2, 3, 1.0]))
    assert found.spacing == (3, 2, 1)
    slices = nifti.decode(Entry(str(tmp_path / "a.nii"), "a", 0, "all"), "axial").pictures
    for one in slices:
        np.testing.assert_array_equal(found.pixels[one.frame], one.pixels)


@pytest.mark.parametrize("name", ["anatomical.nii", "CT_AVM.nii.gz", "functional.nii"])
def test_real_volumes(volumes, name):
    path = volumes / "nifti" / name
    (found,) = nifti.decode(Entry(str(path), name, 0, "all"), "volume").pictures
    volume = nib.load(path)
    values = np.asarray(volume.dataobj, np.float64).reshape(*volume.shape[:3], -1)[..., 0]
    indices = np.rint(apply_affine(np.linalg.inv(volume.affine), _millimetres(found))).astype(int)
    half = (found.high - found.low) / TOP / 2
    expected = values[*np.moveaxis(indices, -1, 0)]
    np.testing.assert_allclose(_units(found), expected, atol=half * (1 + 1e-6))


# --- DICOM series


@pytest.mark.parametrize("turned", [0.0, 0.3])
def test_slices_are_put_where_they_lie(tmp_path, turned):
    """Every voxel holds a function of its place."""
    geometry = save_series(
        tmp_path / "a", field, count=6, size=(9, 7), step=2.5, spacing=(1.25, 0.75),
        rotation=rotation(turned), RescaleSlope=1, RescaleIntercept=-1000,
    )  # fmt: skip
    found = read_series(tmp_path)
    assert found.pixels.shape == (6, 9, 7, 1)
    mm = _millimetres(found)
    np.testing.assert_allclose(_units(found), field(mm @ LPS[:3, :3]) - 1000, atol=1)
    np.testing.assert_allclose(found.spacing, (2.5, 1.25, 0.75))
    assert sorted(map(tuple, np.round(mm.reshape(-1, 3), 6))) == sorted(
        map(tuple, np.round(geometry.reshape(-1, 3), 6))
    )


def test_a_slice_tells_how_high_it_lies(tmp_path):
    for label, turned in (("a", 0.0), ("b", 0.3)):
        save_series(
            tmp_path / "set" / label, field, count=5, size=(8, 8), step=2.5,
            rotation=rotation(turned), SliceThickness=2.5,
        )  # fmt: skip
    source = open_source(
        f"dicom:{tmp_path / 'set'}", data_dir="", size=8, channels=1, spool=tmp_path / "spool"
    )
    source.spool.write_originals(tmp_path / "known.parquet")
    known = tables.read_parquet(tmp_path / "known.parquet")
    for label in "ab":
        here = [name.startswith(label) for name in known["id"].tolist()]
        np.testing.assert_allclose(np.diff(known["slice_index"][here]), 2.5)


def test_a_tilted_gantry_shears_the_volume(tmp_path):
    save_series(tmp_path / "a", field, count=4, size=(9, 7), step=3, shear=(0, 1.0, 0))
    found = read_series(tmp_path)
    mm = _millimetres(found)
    np.testing.assert_allclose(_units(found), field(mm @ LPS[:3, :3]), atol=1)
    np.testing.assert_allclose(found.spacing[0], np.hypot(3, 1))


def test_frames_of_one_file_are_a_volume(tmp_path):
    """Positions per frame, orientation and spacing for all, as enhanced files have them."""
    pixels = np.stack([np.full((4, 4), 10 * k, np.uint16) for k in (2, 0, 3, 1)])
    pixels[:, 0, 0] = 4000
    frames = []
    for k in (2, 0, 3, 1):
        plane = pydicom.Dataset()
        plane.ImagePositionPatient = [0, 0, 2 * k]
        frame = pydicom.Dataset()
        frame.PlanePositionSequence = [plane]
        frames.append(frame)
    shared, measures, orientation = (pydicom.Dataset() for _ in range(3))
    measures.PixelSpacing, orientation.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    path = save_dicom(
        tmp_path / "a" / "a.dcm", pixels, NumberOfFrames=4, SeriesInstanceUID="1.2.3",
        SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    found = read_series(tmp_path)
    np.testing.assert_allclose(_units(found)[:, 1, 1], [0, 10, 20, 30], atol=0.05)
    assert found.spacing == (2, 1, 1)
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[1] = dataset.PerFrameFunctionalGroupsSequence[0]
    dataset.save_as(path)
    with pytest.raises(RefusedError, match=r"two slices in one place \(a/a\.dcm#0 and a/a\.dcm#1"):
        read_series(tmp_path)


def test_a_window_counts_where_all_slices_have_it(tmp_path):
    window = {"WindowCenter": 2100, "WindowWidth": 101}
    save_series(tmp_path / "a", field, count=3, size=(4, 4), **window)
    found = read_series(tmp_path)
    assert (found.low, found.high) == found.window == (2049.5, 2149.5)
    path = tmp_path / "a" / "0.dcm"
    dataset = pydicom.dcmread(path)
    assert read_series(tmp_path, windowed=False).low == found.minimum
    dataset.WindowCenter = 1900
    dataset.save_as(path)
    other = read_series(tmp_path)
    assert (other.low, other.high) == (found.minimum, found.maximum)
    assert np.isnan(other.window).all()


def test_inverted_series_stay_inverted(tmp_path):
    save_series(tmp_path / "a", field, count=3, size=(4, 4), kind="MONOCHROME1")
    found = read_series(tmp_path)
    assert found.low > found.high
    np.testing.assert_allclose(
        _units(found), field(_millimetres(found) @ LPS[:3, :3]), atol=0.1
    )  # fmt: skip


def _change(folder: pathlib.Path, name: str, **elements) -> None:
    dataset = pydicom.dcmread(folder / "a" / name)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(folder / "a" / name)


_TURNED = [0.8, 0.6, 0, -0.6, 0.8, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "a" / "2.dcm").unlink(), r"gap .* of 6 mm where others have 3 mm"),
        (lambda f: (f / "a" / "9.dcm").write_bytes((f / "a" / "2.dcm").read_bytes()),
         r"two slices in one place \(a/2\.dcm and a/9\.dcm\)"),
        (lambda f: _change(f, "2.dcm", ImageOrientationPatient=_TURNED), "not parallel"),
        (lambda f: _change(f, "2.dcm", PixelSpacing=[1, 1.1]), "different pixel spacings"),
        (lambda f: _change(f, "2.dcm", PhotometricInterpretation="MONOCHROME1"), "sizes or kinds"),
        (lambda f: _change(f, "2.dcm", ImagePositionPatient=[5, 0, 6]), r"shifted .* \(a/\d\.dcm"),
        (lambda f: _change(f, "2.dcm", ImagePositionPatient=None), "has no ImagePositionPatient"),
        (lambda f: _change(f, "2.dcm", ImageOrientationPatient=[0] * 6), "impossible values"),
        (lambda f: _change(f, "2.dcm", PatientID="other"), "of several patients"),
        (lambda f: _change(f, "2.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"),
         r"has a slice, a/2\.dcm, that holds a segmentation"),
    ],
)  # fmt: skip
def test_slices_that_make_no_volume_are_named(tmp_path, change, words):
    save_series(tmp_path / "a", field, count=6, size=(4, 4), step=3)
    change(tmp_path)
    with pytest.raises(RefusedError, match=words):
        read_series(tmp_path)


def test_series_as_a_source(tmp_path, truncate):
    """Mixed in one folder, in two classes; a broken series is named and the rest goes on."""
    for label in "ab":
        for number in range(3):
            folder = tmp_path / label / ("" if number < 2 else "deep")
            save_series(
                folder, field, count=5, size=(8, 8), prefix=f"{number}-",
                PatientID=f"P{label}{number % 2}",
            )  # fmt: skip
    truncate(tmp_path / "b" / "1-3.dcm")
    rng = np.random.default_rng(0)
    save_dicom(tmp_path / "a" / "alone.dcm", rng.integers(0, 4096, (8, 8), dtype=np.uint16))
    source = _open(f"dicom:{tmp_path}", depth=4, max_unreadable=0.5)
    records = source.splits["all"]
    assert records.images.shape == (5, 4, 8, 8, 1)
    assert records.ids.tolist() == [
        "a/0-0.dcm", "a/1-0.dcm", "a/deep/2-0.dcm", "b/0-0.dcm", "b/deep/2-0.dcm",
    ]  # fmt: skip
    assert len(set(records.groups)) == 3
    assert records.groups[0] == records.groups[2]
    # What is cut short can't be told from other series, so its header stands alone.
    assert set(source.report.unreadable) >= {"a/alone.dcm", "b/1-0.dcm"}
    items = walk(f"dicom:{tmp_path}", np.shape, data_dir="", options=Options(axis="volume")).items
    assert sum(not isinstance(item, Unreadable) for item in items) == 5


def test_series_whose_files_alternate(tmp_path):
    """Series come in the order of their first files, each with its files in their order."""
    for name, value in (("b", 100), ("a", 5000)):
        save_series(tmp_path / name, lambda mm, value=value: field(mm) * 0 + value + mm[..., 2],
                    count=4, size=(4, 4))  # fmt: skip
    mixed = tmp_path / "set" / "class"
    mixed.mkdir(parents=True)
    for place, name in enumerate("ba"):
        for path in (tmp_path / name).glob("*.dcm"):
            path.rename(mixed / f"{path.stem}-{place}.dcm")
    found = series.list_series(mixed.parent, tmp_path, Options(axis="volume"))
    assert [entry.name for entry in found.entries] == ["class/0-0.dcm", "class/0-1.dcm"]
    assert found.entries.splits() == ["all"]
    for entry in found.entries:
        kind = entry.name.partition("-")[2]
        assert [one.name for one in entry.slices] == [f"class/{i}-{kind}" for i in range(4)]
    lows = [next(iter(found.decode(entry).pictures)).minimum for entry in found.entries[::-1]]
    assert lows[0] > 4000 > 1000 > lows[1]


def test_a_series_in_two_classes_is_refused(tmp_path):
    save_series(tmp_path / "a", field, count=6, size=(4, 4))
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "5.dcm").rename(tmp_path / "b" / "5.dcm")
    with pytest.raises(RefusedError, match="several labels, splits or patients"):
        read_series(tmp_path)


def test_volumes_need_a_source_that_has_them(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match=r"axis=volume does not go with .*source=folder:"):
        _open(f"folder:{tmp_path}")


def test_real_series_lie_where_nibabel_puts_them(volumes):
    folder = volumes / "dicom_ct_torchio17"
    files = tuple(Entry(str(x), x.name, 0, "all") for x in sorted(folder.glob("*.dcm")))
    (found,) = series.decode(Entry(files[0].file, "a", 0, "all", slices=files), False).pictures
    _compare_with_nibabel(found, files)


def test_a_real_tilted_series(volumes, tmp_path):
    """The first six slices; the two after them are thicker, which is a step between slices."""
    with zipfile.ZipFile(volumes / "dicom_ct_head_ge_8slices.zip") as archive:
        archive.extractall(tmp_path)
    files = tuple(Entry(str(x), x.name, 0, "all") for x in sorted(tmp_path.rglob("*.dcm")))
    with pytest.raises(RefusedError, match=r"gap or a step .*14\.dcm and 15\.dcm"):
        series.decode(Entry(files[0].file, "a", 0, "all", slices=files), False)
    entry = Entry(files[0].file, "a", 0, "all", slices=files[:6])
    (found,) = series.decode(entry, False).pictures
    _compare_with_nibabel(found, files[:6])


def _compare_with_nibabel(found: Picture, files: tuple[Entry, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is made for Siemens
        from nibabel.nicom.dicomwrappers import wrapper_from_file
    inverse = np.linalg.inv(found.affine)
    for one in files:
        wrapped = wrapper_from_file(one.file)  # its affine is LPS, from (row, column, 0)
        values = np.asarray(wrapped.get_data(), np.float64).squeeze()
        rows, columns = np.indices(values.shape)
        mm = apply_affine(LPS @ wrapped.affine, np.stack([rows, columns, 0 * rows], -1))
        places = apply_affine(inverse, mm)
        np.testing.assert_allclose(places, np.rint(places), atol=0.02)
        seen = _units(found)[*np.moveaxis(np.rint(places).astype(int), -1, 0)]
        # What is below is padding.
        values = values.clip(found.low, found.high)
        np.testing.assert_allclose(seen, values, atol=(found.high - found.low) / TOP)
