"""Every format read back by a library that did not write it here, and by our own sources."""

import dataclasses
import json
import math
import pathlib

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from data import marks
from data.errors import UserError
from data.export import FORMATS, About
from data.sources import dicom, folder, labels, nifti
from data.sources.raw import Options

PLAIN = About(
    name="a", class_name="Lungenentzündung", synthetic=True, facts={"SampleId": "x-1"}, owner="",
    group="g", low=math.nan, high=math.nan, software="VRN 1",
)  # fmt: skip
REAL = dataclasses.replace(PLAIN, synthetic=False, owner="0123456789abcdef")


def _image(dtype, channels=1, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.uniform(-1, 1, (12, 9, channels)).astype(np.float32)
    image = rng.integers(0, np.iinfo(dtype).max, (12, 9, channels), dtype=dtype, endpoint=True)
    image[0, 0], image[1, 1] = 3, np.iinfo(dtype).max - 7  # not the whole range
    return image


def _write(tmp_path, kind, image, about=PLAIN, bits=None) -> pathlib.Path:
    bits = bits or (8 if image.dtype == np.uint8 else 16)
    writer = FORMATS[kind]
    path = tmp_path / "set" / "class" / f"{about.name}{writer.SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.check(image.shape, bits)
    writer.write(path, image, about, bits)
    return path


def _own(kind: str, path: pathlib.Path) -> tuple:
    """The picture as the project's own source reads it, and the name it gives it."""
    root = path.parents[1]
    listing = {
        "png": folder.list_folder,
        "npy": folder.list_folder,
        "nifti": nifti.list_nifti,
        "dicom": dicom.list_dicom,
    }[kind](root, path.parent, Options())
    (entry,) = listing.entries
    (picture,) = listing.decode(entry).pictures
    return picture, labels.marked(entry, root).name


def _values(kind: str, path: pathlib.Path) -> np.ndarray:
    """Pixels [H, W(, 3)] by the library of the format alone."""
    if kind == "png":
        return np.asarray(Image.open(path))
    if kind == "npy":
        return np.load(path).squeeze(-1) if np.load(path).shape[-1] == 1 else np.load(path)
    if kind == "dicom":
        return pydicom.dcmread(path).pixel_array
    # nibabel: x grows to the right of the patient, who is seen from the feet and lies on the back
    return np.asarray(nib.load(path).dataobj)[::-1, ::-1, 0].T


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_images_come_back_bit_for_bit(tmp_path, kind, dtype):
    image = _image(dtype)
    path = _write(tmp_path, kind, image)
    np.testing.assert_array_equal(_values(kind, path), image[..., 0])
    picture, name = _own(kind, path)
    factor = 257 if picture.pixels.dtype != dtype else 1  # NIfTI is always read as 16 bits
    np.testing.assert_array_equal(picture.pixels, image.astype(int) * factor)
    assert marks.is_marked(name)


@pytest.mark.parametrize("kind", ["png", "npy", "dicom"])
def test_colours_come_back_bit_for_bit(tmp_path, kind):
    image = _image(np.uint8, 3)
    path = _write(tmp_path, kind, image)
    np.testing.assert_array_equal(_values(kind, path), image)
    np.testing.assert_array_equal(_own(kind, path)[0].pixels, image)


@pytest.mark.parametrize("kind", FORMATS)
def test_float_images_come_back_within_half_a_quantum(tmp_path, kind):
    image = _image(np.float32)
    values = _values(kind, _write(tmp_path, kind, image)).astype(np.float64)
    if kind in ("png", "dicom"):
        values = values / 32767.5 - 1
    half = 0 if kind in ("npy", "nifti") else 1 / 65535
    np.testing.assert_allclose(values, image[..., 0], atol=half + 1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["png", "dicom"])
def test_other_depths_on_request(tmp_path, kind):
    deep, flat = _image(np.uint16), _image(np.uint8)
    values = _values(kind, _write(tmp_path, kind, deep, bits=8))
    assert values.dtype == np.uint8
    np.testing.assert_allclose(values * 257.0, deep[..., 0], atol=257 / 2)
    values = _values(kind, _write(tmp_path, kind, flat, bits=16))
    np.testing.assert_array_equal(values, flat[..., 0].astype(int) * 257)


@pytest.mark.parametrize(("low", "high"), [(-1000.0, 3071.0), (1.0, -0.25), (0.0, 1e-7)])
@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_values_are_those_of_the_source(tmp_path, kind, low, high):
    """Hounsfield units, an inverted image and tiny numbers."""
    image = _image(np.uint16)
    about = dataclasses.replace(REAL, low=low, high=high)
    path = _write(tmp_path, kind, image, about)
    expected = low + image[..., 0] / 65535 * (high - low)
    if kind == "nifti":
        values = nib.load(path).get_fdata()[::-1, ::-1, 0].T
    else:
        header = pydicom.dcmread(path)
        values = apply_modality_lut(header.pixel_array, header)
        shown = apply_voi_lut(values, header)
        shown = shown.max() + shown.min() - shown if low > high else shown
        assert np.corrcoef(shown.ravel(), image.ravel())[0, 1] > 0.999999
    np.testing.assert_allclose(values, expected, atol=abs(high - low) / 65535 / 2)
    picture, name = _own(kind, path)
    np.testing.assert_array_equal(picture.pixels, image)
    assert (picture.low, picture.high) == pytest.approx((low, high), rel=1e-5)
    assert not marks.is_marked(name)


def test_same_image_same_bytes(tmp_path):
    for kind in FORMATS:
        one = _write(tmp_path, kind, _image(np.uint16)).read_bytes()
        assert _write(tmp_path, kind, _image(np.uint16)).read_bytes() == one


def test_what_a_dicom_file_says(tmp_path):
    made = pydicom.dcmread(_write(tmp_path, "dicom", _image(np.uint8)))
    assert made.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert list(made.ImageType) == ["DERIVED", "SECONDARY"]
    assert (made.SyntheticData, made.ConversionType) == ("YES", "SYN")
    assert (made.BurnedInAnnotation, str(made.PatientName)) == ("NO", "SYNTHETIC")
    assert made.DerivationDescription.startswith("Synthetic image")
    assert "x-1" in made.DerivationDescription
    assert made.SeriesDescription == "Lungenentzündung"
    assert "Synthetic" in made.ContributingEquipmentSequence[0].ContributionDescription
    uids = {made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID}
    assert len(uids) == 3
    assert all(uid.is_valid and uid.startswith("2.25.") for uid in uids)
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID

    real = pydicom.dcmread(_write(tmp_path, "dicom", _image(np.uint8), REAL))
    assert (real.SyntheticData, real.PatientIdentityRemoved) == ("NO", "YES")
    assert (str(real.PatientName), real.PatientID) == ("", REAL.owner)
    assert "BurnedInAnnotation" not in real
    other = dataclasses.replace(REAL, name="b")
    again = pydicom.dcmread(_write(tmp_path, "dicom", _image(np.uint8), other))
    assert again.StudyInstanceUID == real.StudyInstanceUID  # of one patient
    assert again.SOPInstanceUID != real.SOPInstanceUID


def test_what_other_files_say(tmp_path):
    with Image.open(_write(tmp_path, "png", _image(np.uint16))) as png:
        assert png.text["Synthetic"] == "yes"
        assert png.text["Class"] == "Lungenentzündung"
        assert png.text["SampleId"] == "x-1"
    volume = nib.load(_write(tmp_path, "nifti", _image(np.uint16)))
    assert volume.header["descrip"].item().startswith(b"synthetic image")
    (extension,) = volume.header.extensions
    assert json.loads(extension.get_content())["synthetic"] is True
    path = _write(tmp_path, "npy", _image(np.uint16))
    assert json.loads(path.with_name("a.npy.json").read_text())["synthetic"] is True


@pytest.mark.parametrize(
    ("kind", "shape", "bits", "words"),
    [
        ("png", (4, 4, 5), 8, "can't hold images of 5 channels; use --format=npy"),
        ("png", (4, 4, 3), 16, "colours of 16 bits"),
        ("dicom", (4, 4, 3), 16, "colours of 16 bits"),
        ("nifti", (4, 4, 3), 8, "can't hold images of 3 channels"),
    ],
)
def test_what_a_format_cannot_hold(kind, shape, bits, words):
    with pytest.raises(UserError, match=words):
        FORMATS[kind].check(shape, bits)


def test_a_slice_lies_where_it_did(tmp_path):
    """A tilted sagittal slice: every pixel's place by nibabel, and its size in DICOM."""
    image = _image(np.uint16)
    affine = np.array([[4, 0.1, 0, 9], [0.2, 0, 0.5, -7], [0, -0.75, 0.1, 3], [0, 0, 0, 1]])
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    about = dataclasses.replace(REAL, affine=affine, spacing=spacing)
    volume = nib.load(_write(tmp_path, "nifti", image, about))
    assert volume.header.get_xyzt_units()[0] == "mm"
    for row, column in ((0, 0), (11, 0), (4, 7)):
        place = affine @ [0, row, column, 1]
        voxel = np.rint(np.linalg.inv(volume.affine) @ place)[:3].astype(int)
        np.testing.assert_allclose(volume.affine @ [*voxel, 1], place, atol=1e-4)
        assert volume.dataobj[tuple(voxel)] == image[row, column, 0]
    # Whatever the axis of other files is, one of one slice is that slice.
    picture, _ = _own("nifti", tmp_path / "set" / "class" / "a.nii.gz")
    assert sorted(picture.pixels.shape) == [1, 9, 12]
    np.testing.assert_allclose(sorted(picture.spacing), sorted(spacing), rtol=1e-5)

    made = pydicom.dcmread(_write(tmp_path, "dicom", image, about))
    np.testing.assert_allclose(made.PixelSpacing, spacing[1:], rtol=1e-9)
    sidecar = _write(tmp_path, "npy", image, about).with_name("a.npy.json")
    assert json.loads(sidecar.read_text())["spacing"] == pytest.approx(spacing)


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_the_size_of_pixels_alone_is_kept_too(tmp_path, kind):
    about = dataclasses.replace(REAL, spacing=(math.nan, 0.143, 0.139))
    path = _write(tmp_path, kind, _image(np.uint16), about)
    picture, _ = _own(kind, path)
    assert picture.spacing[1:] == pytest.approx((0.143, 0.139))
    np.testing.assert_array_equal(picture.pixels, _image(np.uint16))


def test_pixels_of_no_size_have_none(tmp_path):
    """As headers of screenshots say it: 0 mm would make an affine without an inverse."""
    about = dataclasses.replace(REAL, spacing=(5.0, 0.0, 0.0))
    volume = nib.load(_write(tmp_path, "nifti", _image(np.uint16), about))
    assert volume.header.get_xyzt_units()[0] == "unknown"
    np.testing.assert_allclose(np.abs(volume.affine[:3, :3]), np.diag([1, 1, 5]))
    made = pydicom.dcmread(_write(tmp_path, "dicom", _image(np.uint16), about))
    assert "PixelSpacing" not in made
