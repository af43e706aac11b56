import csv
import pathlib

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from data.errors import UserError
from data.sources import Options, Source, UnreadableError, dicom
from data.sources.labels import Entry
from data.splits import make_splits
from tests.dicom_files import save_dicom

from .conftest import read_source

TOP = 65535


def _decode(path: pathlib.Path) -> list:
    return list(dicom.decode(Entry(path, path.name, 0, "all")).pictures)


def _open(root: pathlib.Path, size: int = 8, channels: int = 1, **options) -> Source:
    return read_source(
        f"dicom:{root}", data_dir="", size=size, channels=channels, options=Options(**options)
    )


def _table(path: pathlib.Path, rows: list[dict]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def _within_half(pixels: np.ndarray, unit: np.ndarray, top: int = TOP) -> None:
    """Stored pixels are the nearest ones to values in [0, 1]."""
    np.testing.assert_allclose(pixels, unit * top, atol=0.5 + 1e-6, rtol=0)


@pytest.fixture
def ramp(rng) -> np.ndarray:
    return rng.integers(0, 4096, (8, 8), dtype=np.uint16)


# --- made files


def test_full_range_without_a_window(tmp_path, ramp):
    (found,) = _decode(save_dicom(tmp_path / "a", ramp))
    assert found.pixels.dtype == np.uint16
    assert found.pixels.shape == (8, 8, 1)
    low, high = int(ramp.min()), int(ramp.max())
    assert (found.low, found.high) == (low, high)
    _within_half(found.pixels[..., 0], (ramp - low) / (high - low))


@pytest.mark.parametrize(
    ("header", "spacing"),
    [
        ({"PixelSpacing": [0.5, 0.25], "SliceThickness": 3}, (3, 0.5, 0.25)),
        ({"PixelSpacing": 0.5, "ImagerPixelSpacing": [0.2, 0.1]}, (np.nan, 0.2, 0.1)),
        ({"PixelSpacing": [0, 0], "SpacingBetweenSlices": -2}, (np.nan,) * 3),
        ({"SpacingBetweenSlices": 0, "SliceThickness": 4}, (4, np.nan, np.nan)),
    ],
)  # fmt: skip
def test_spacing_is_what_can_be_one(tmp_path, rng, ramp, header, spacing):
    colour = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for path in (
        save_dicom(tmp_path / "grey", ramp, **header),
        save_dicom(tmp_path / "colour", colour, kind="RGB", bits=8, **header),
    ):
        (found,) = _decode(path)
        np.testing.assert_array_equal(found.spacing, spacing)


def test_padding_does_not_stretch_the_range(tmp_path, ramp):
    padded = ramp.astype(np.int16)
    padded[0] = -2000
    for header, low in (({}, -2000), ({"PixelPaddingValue": -2000}, padded[1:].min())):
        path = save_dicom(tmp_path / "a", padded, bits=16, **header)
        (found,) = _decode(path)
        assert (found.low, found.high) == (low, padded.max())
        assert not found.pixels[0].any()
    limit = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": int(padded.max())}
    (found,) = _decode(save_dicom(tmp_path / "b", padded, bits=16, **limit))
    assert (found.low, found.high) == (-2000, padded.max())


def test_rescale_comes_before_the_first_window(tmp_path, ramp):
    header = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    header |= {"WindowCenter": [40, 999], "WindowWidth": [400, 9]}
    (found,) = _decode(save_dicom(tmp_path / "a", ramp, **header))
    # PS3.3 C.11.2.1.2.1
    unit = np.clip((2.0 * ramp - 1000 - (40 - 0.5)) / (400 - 1) + 0.5, 0, 1)
    assert unit.min() == 0
    assert unit.max() == 1
    _within_half(found.pixels[..., 0], unit)
    assert (found.low, found.high) == (-160, 239)


@pytest.mark.parametrize("shape", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_every_shape_of_window_is_pydicoms(tmp_path, ramp, shape):
    header = {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": shape}
    path = save_dicom(tmp_path / "a", ramp, **header)
    (found,) = _decode(path)
    shown = apply_voi_lut(ramp, pydicom.dcmread(path)).astype(np.float64)
    _within_half(found.pixels[..., 0], shown / 4095)


def test_window_of_width_one_is_a_step(tmp_path, ramp):
    (found,) = _decode(save_dicom(tmp_path / "a", ramp, WindowCenter=2000.5, WindowWidth=1))
    np.testing.assert_array_equal(found.pixels[..., 0], np.where(ramp > 2000, TOP, 0))


def test_a_window_without_width_counts_as_none(tmp_path, ramp):
    with_none = _decode(save_dicom(tmp_path / "a", ramp))
    zero = _decode(save_dicom(tmp_path / "b", ramp, WindowCenter=0, WindowWidth=0))
    np.testing.assert_array_equal(zero[0].pixels, with_none[0].pixels)


def test_lookup_table_goes_before_the_window(tmp_path):
    pixels = np.arange(16, dtype=np.uint16).reshape(4, 4)
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [16, 0, 12])
    table.add_new("LUTData", "US", [4095 - 17 * i * i for i in range(16)])
    header = {"VOILUTSequence": [table], "WindowCenter": 1, "WindowWidth": 2}
    (found,) = _decode(save_dicom(tmp_path / "a", pixels, **header))
    _within_half(found.pixels[..., 0], (4095 - 17 * pixels.astype(float) ** 2) / 4095)


def test_monochrome1_is_inverted(tmp_path, ramp):
    (plain,) = _decode(save_dicom(tmp_path / "a", ramp))
    (found,) = _decode(save_dicom(tmp_path / "b", ramp, kind="MONOCHROME1"))
    _within_half(found.pixels, 1 - plain.pixels / TOP)
    assert (found.low, found.high) == (plain.high, plain.low)


def test_eight_bits_stay_as_they_are(tmp_path, rng):
    pixels = rng.integers(9, 200, (8, 8), dtype=np.uint8)
    (found,) = _decode(save_dicom(tmp_path / "a", pixels, bits=8))
    assert found.pixels.dtype == np.uint8
    np.testing.assert_array_equal(found.pixels[..., 0], pixels)


def test_colour(tmp_path, rng):
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    (found,) = _decode(save_dicom(tmp_path / "a", pixels, kind="RGB", bits=8))
    np.testing.assert_array_equal(found.pixels, pixels)
    (found,) = _decode(save_dicom(tmp_path / "b", pixels, kind="YBR_FULL", bits=8))
    expected = pydicom.pixels.convert_color_space(pixels, "YBR_FULL", "RGB")
    np.testing.assert_array_equal(found.pixels, expected)


def test_palette(tmp_path):
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    header = {}
    for k, name in enumerate(("Red", "Green", "Blue")):
        header[f"{name}PaletteColorLookupTableDescriptor"] = [16, 0, 16]
        values = (np.arange(16, dtype="<u2") * 4096 + k * 256).tobytes()
        header[f"{name}PaletteColorLookupTableData"] = values
    (found,) = _decode(save_dicom(tmp_path / "a", pixels, kind="PALETTE COLOR", bits=8, **header))
    expected = pixels[..., None] * 16 + np.arange(3)
    np.testing.assert_array_equal(found.pixels, expected)


def test_frames_share_their_range_and_have_their_own_windows(tmp_path, rng):
    pixels = rng.integers(100, 4000, (3, 8, 8), dtype=np.uint16)
    found = _decode(save_dicom(tmp_path / "a", pixels))
    assert [x.frame for x in found] == [0, 1, 2]
    low, high = int(pixels.min()), int(pixels.max())
    for frame, one in zip(pixels, found, strict=True):
        _within_half(one.pixels[..., 0], (frame - low) / (high - low))
    frames = []
    for centre in (1000, 2000, 3000):
        window, groups = pydicom.Dataset(), pydicom.Dataset()
        window.WindowCenter, window.WindowWidth = centre, 1001
        groups.FrameVOILUTSequence = [window]
        frames.append(groups)
    rescale, shared = pydicom.Dataset(), pydicom.Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, 100
    shared.PixelValueTransformationSequence = [rescale]
    header = {"SharedFunctionalGroupsSequence": [shared]}
    header["PerFrameFunctionalGroupsSequence"] = frames
    found = _decode(save_dicom(tmp_path / "b", pixels, **header))
    for frame, one, centre in zip(pixels, found, (1000, 2000, 3000), strict=True):
        unit = np.clip((frame + 100.0 - (centre - 0.5)) / 1000 + 0.5, 0, 1)
        _within_half(one.pixels[..., 0], unit)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless"])
def test_compressed_files_are_the_plain_ones(tmp_path, rng, syntax):
    ramp = rng.integers(0, 4096, (64, 64), dtype=np.uint16)
    (plain,) = _decode(save_dicom(tmp_path / "a", ramp))
    uid = getattr(pydicom.uid, syntax)
    (found,) = _decode(save_dicom(tmp_path / "b", ramp, compress=uid))
    np.testing.assert_array_equal(found.pixels, plain.pixels)


# --- folders


def _study(root: pathlib.Path, rng, patients: int = 4, **header) -> None:
    """Two classes of `patients` patients each, two files a patient, all of them named."""
    for label in ("sick", "healthy"):
        for patient in range(patients):
            for view in range(2):
                save_dicom(
                    root / label / f"{patient}{view}",
                    rng.integers(0, 4096, (8, 8), dtype=np.uint16),
                    **{"PatientID": f"{label}-{patient}"} | header,
                )


def test_class_folders_patients_and_ids(tmp_path, rng):
    _study(tmp_path, rng)
    (tmp_path / "sick" / "notes.txt").write_text("no image")
    (tmp_path / "sick" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    source = _open(tmp_path, salt="pepper")
    records = source.splits["all"]
    assert records.class_names == ("healthy", "sick")
    assert records.ids[:2].tolist() == ["healthy/00#0", "healthy/01#0"]
    assert len(records) == 16
    assert len(set(records.groups)) == 8
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in records.groups)
    made = make_splits(source, val_fraction=0.25, test_fraction=0.25, real_per_class=0, seed=0)
    groups = [set(getattr(made, name).groups) for name in ("train", "val", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 8
    other = _open(tmp_path, salt="salt").splits["all"]
    assert not set(other.groups) & set(records.groups)


def test_without_patients_studies_or_folders_are_groups(tmp_path, rng):
    _study(tmp_path / "a", rng, patients=2, PatientID="", StudyInstanceUID="1.2.3")
    assert len(set(_open(tmp_path / "a").splits["all"].groups)) == 1
    _study(tmp_path / "b", rng, patients=2, PatientID="")
    records = _open(tmp_path / "b").splits["all"]
    assert len(set(records.groups)) == 2
    assert len(set(records.groups[records.labels == 0])) == 1


def test_depths_and_colours_come_together_exactly(tmp_path, rng):
    pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    save_dicom(tmp_path / "a" / "1", pixels, bits=8)
    save_dicom(tmp_path / "b" / "1", rng.integers(0, 4096, (8, 8), dtype=np.uint16))
    colour = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    save_dicom(tmp_path / "b" / "2", colour, kind="RGB", bits=8)
    records = _open(tmp_path, channels=3).splits["all"]
    assert records.dtype == np.uint16
    np.testing.assert_array_equal(records.images[0], np.repeat(pixels[..., None], 3, 2) * 257.0)
    np.testing.assert_array_equal(records.images[2], colour * 257.0)


def test_what_cannot_be_read_is_listed(tmp_path, rng, truncate):
    _study(tmp_path, rng, patients=8)
    plain = rng.integers(0, 4096, (64, 64), dtype=np.uint16)
    truncate(save_dicom(tmp_path / "sick" / "00", plain))
    save_dicom(tmp_path / "sick" / "dose", plain, SOPClassUID=pydicom.uid.RTDoseStorage)
    (tmp_path / "healthy" / "text.dcm").write_text("a text")
    source = _open(tmp_path)
    assert len(source.splits["all"]) == 31
    assert source.report.files == 34
    reasons = source.report.unreadable
    assert sorted(reasons) == ["healthy/text.dcm", "sick/00", "sick/dose"]
    assert reasons["healthy/text.dcm"] == "is no DICOM file (no DICM at byte 128)"
    assert reasons["sick/00"].startswith("can't be decoded (The number of bytes")
    assert reasons["sick/dose"] == "holds a dose, not an image"
    with pytest.raises(
        UnreadableError,
        match=r"3 of 34 files below .* more than --config\.data\.max_unreadable=0\.05 allows, "
        r"the first: healthy/text\.dcm is no DICOM file",
    ) as error:
        _open(tmp_path, max_unreadable=0.05)
    assert error.value.unreadable == reasons


def test_nothing_readable(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.dcm").write_text("x")
    with pytest.raises(UserError, match=r"2 of 2 files below .* can't be read, the first: a/x"):
        _open(tmp_path, max_unreadable=0.99)


def test_names_of_patients_are_never_told(tmp_path, rng, truncate, capfd, caplog):
    _study(tmp_path, rng, PatientID="ID-4711")
    truncate(tmp_path / "sick" / "00")
    odd = rng.integers(0, 4096, (8, 8), dtype=np.uint16)
    save_dicom(tmp_path / "sick" / "odd", odd, NumberOfFrames=7)
    with pydicom.config.disable_value_validation():
        uid = {"PatientID": "", "StudyInstanceUID": "Secret 4711"}  # which pydicom quotes, as wrong
        save_dicom(tmp_path / "sick" / "uid", odd, **uid)
    source = _open(tmp_path, max_unreadable=0.5)
    records = source.splits["all"]
    told = repr((source, source.report, records.ids.tolist(), records.groups.tolist()))
    told += "".join(capfd.readouterr())
    with pytest.raises(UserError) as error:
        _open(tmp_path)
    told += str(error.value) + caplog.text
    assert len(source.report.unreadable) == 2
    assert "Secret" not in told
    assert "4711" not in told


# --- real files


def _row(path: pathlib.Path, root: pathlib.Path, label: str) -> dict[str, str]:
    return {"file": path.relative_to(root).as_posix(), "label": label}


REFUSED = {
    "JPEG-lossy.dcm": "can't be decoded",  # lossy JPEG of 12 bits
    "liver_expb.dcm": "holds a segmentation",
    "parametric_map_float.dcm": "holds a map of floating-point values",
    "rtdose.dcm": "holds a dose",
}


def test_every_real_file_is_read_or_listed(volumes, tmp_path):
    root = volumes / "dicom_misc_pydicom"
    paths = sorted(root.iterdir())
    assert len(paths) == 16
    rows = [_row(path, root, f"class {i % 2}") for i, path in enumerate(paths)]
    source = _open(root, labels=_table(tmp_path / "t.csv", rows), max_unreadable=0.5)
    reasons = source.report.unreadable
    assert reasons.keys() == REFUSED.keys()
    assert all(text.startswith(REFUSED[name]) for name, text in reasons.items())
    read = {name.rpartition("#")[0] for name in source.splits["all"].ids}
    assert read | reasons.keys() == {path.name for path in paths}
    assert not read & reasons.keys()


READ = [
    "693_J2KR", "CT_small", "JPEG-LL", "JPEG2000_UNC", "MR2_J2KI", "MR_small", "MR_small_RLE",
    "MR_small_bigendian", "RG3_J2KI", "US1_J2KR", "color-px", "emri_small",
]  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_real_values_are_pydicoms(volumes, name):
    path = volumes / "dicom_misc_pydicom" / f"{name}.dcm"
    dataset = pydicom.dcmread(path)
    stored = pydicom.pixels.pixel_array(dataset)
    found = _decode(path)
    pixels = np.stack([x.pixels for x in found])
    if dataset.SamplesPerPixel == 3:
        np.testing.assert_array_equal(pixels[0], stored)
        return
    values = apply_modality_lut(stored, dataset).astype(np.float64)
    if "WindowWidth" in dataset:
        dark, light = apply_voi_lut(np.array([-1e9, 1e9]), dataset)
        unit = (apply_voi_lut(values, dataset) - dark) / (light - dark)
    else:
        unit = (values - values.min()) / (values.max() - values.min())
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    assert pixels.dtype == np.uint16
    assert unit.min() < unit.max()
    _within_half(pixels.reshape(unit.shape), unit)


def test_real_series_is_one_patient(volumes, tmp_path):
    root = volumes / "dicom_ct_torchio17"
    paths = sorted(root.iterdir())
    rows = [_row(path, root, f"class {i % 2}") for i, path in enumerate(paths)]
    source = _open(root, labels=_table(tmp_path / "t.csv", rows), size=64)
    records = source.splits["all"]
    assert len(records) == 17
    assert len(set(records.groups)) == 1
    for path, image in zip(paths, records.images, strict=True):
        assert image.dtype == np.uint16
        assert pydicom.dcmread(path).PatientID not in str(records.groups[0])
    with pytest.raises(UserError, match=r"1 groups \(patients\) to divide"):
        make_splits(source, val_fraction=0.2, test_fraction=0.2, real_per_class=0, seed=0)
