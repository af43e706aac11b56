"""Steps of preprocessing on volumes, and their affines."""

import numpy as np
import pytest
from nibabel.affines import apply_affine

from data import images, preprocess
from data.sources import dicom
from data.sources.raw import Entry
from tests.dicom_files import save_series

from .places import LPS, TOP, field, read_series, rotation


def test_volumes_are_resized_with_a_triangle(rng):
    """Beside the filter written out as a matrix for each axis."""

    def matrix(before: int, after: int) -> np.ndarray:
        zoom = before / after
        centre, reach = (np.arange(after) + 0.5) * zoom, max(zoom, 1)
        weight = 1 - np.abs(np.arange(before) + 0.5 - centre[:, None]) / reach
        weight = np.clip(weight, 0, None)
        return weight / weight.sum(axis=1, keepdims=True)

    volume = rng.random((9, 12, 10, 2)).astype(np.float32)
    resized = images.resize(volume, (4, 20, 10))
    expected = volume.astype(np.float64)
    for axis, (before, after) in enumerate(((9, 4), (12, 20), (10, 10))):
        expected = np.moveaxis(np.tensordot(matrix(before, after), expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(resized, expected, atol=1e-6)
    whole = (volume * TOP).astype(np.uint16)
    assert images.resize(whole, 6).shape == (6, 6, 6, 2)
    assert images.resize(whole, 6).dtype == np.uint16


@pytest.mark.parametrize(
    "chain",
    [
        ("resize",), ("resize(pad)",), ("resize(crop)",), ("resample(2.0)", "resize"),
        ("centre(20)", "resize"), ("window(2000, 9000)", "resample(1.5)", "resize(pad)"),
    ],
)  # fmt: skip
def test_the_affine_follows_the_steps(tmp_path, chain):
    """A linear function of the place is the same one at the places that the new affine gives."""
    save_series(tmp_path / "a", field, count=14, size=(18, 24), step=2.5, spacing=(1.25, 1.5))
    found = read_series(tmp_path, windowed=False)
    steps = preprocess.parse(chain, (12, 16, 16))
    image = preprocess.Image(
        found.pixels, found.low, found.high, found.pixels.dtype, found.spacing, affine=found.affine
    )
    after, undos = preprocess.apply(steps, image)
    assert after.values.shape == (12, 16, 16, 1)
    mm = apply_affine(after.affine, np.moveaxis(np.indices((12, 16, 16)), 0, -1))
    values = after.low + after.values[..., 0] / TOP * (after.high - after.low)
    inside = np.linalg.inv(found.affine)
    index = apply_affine(inside, mm)
    well = ((index > 2) & (index < np.array([14, 18, 24]) - 3)).all(axis=-1)
    assert well.sum() > 50
    expected = field(mm @ LPS[:3, :3])
    np.testing.assert_allclose(values[well], expected[well], atol=0.01 * np.ptp(expected))
    np.testing.assert_allclose(
        after.spacing, np.linalg.norm(after.affine[:3, :3], axis=0), rtol=1e-9
    )
    back = preprocess.undo(steps, after.values, undos, after.low, after.high)
    assert back.shape == found.pixels.shape


@pytest.mark.parametrize(
    "chain",
    [("resize",), ("resize(pad)",), ("resize(crop)",), ("centre(20)", "resample(2.0)", "resize")],
)
def test_the_affine_of_a_slice_follows_the_steps(tmp_path, chain):
    """As above, for one file of a tilted series by itself."""
    spacing, turned = (1.25, 1.5), rotation(0.3)
    save_series(
        tmp_path / "a", field, count=4, size=(18, 24), step=2.5, spacing=spacing, rotation=turned,
        SliceThickness=2,
    )  # fmt: skip
    path = sorted((tmp_path / "a").iterdir())[2]
    (found,) = dicom.decode(Entry(str(path), "a", 0, "all"), windowed=False).pictures
    np.testing.assert_allclose(found.spacing, (2, *spacing))
    steps = preprocess.parse(chain, 16)
    image = preprocess.Image(
        found.pixels, found.low, found.high, found.pixels.dtype, spacing, affine=found.affine
    )
    after, _ = preprocess.apply(steps, image)
    rows, columns = np.indices((16, 16))
    mm = apply_affine(after.affine, np.stack([0 * rows, rows, columns], -1))
    top = np.iinfo(after.values.dtype).max
    values = after.low + after.values[..., 0] / top * (after.high - after.low)
    index = apply_affine(np.linalg.inv(found.affine), mm)
    np.testing.assert_allclose(index[..., 0], 0, atol=1e-9)
    well = ((index[..., 1:] > 2) & (index[..., 1:] < np.array([18, 24]) - 3)).all(axis=-1)
    assert well.sum() > 50
    expected = field(mm @ LPS[:3, :3])
    np.testing.assert_allclose(values[well], expected[well], atol=0.01 * np.ptp(expected))
    np.testing.assert_allclose(after.spacing, np.linalg.norm(after.affine[:3, 1:3], axis=0))


def test_blank_volumes_are_left_out_by_name(rng):
    image = preprocess.Image(np.zeros((4, 4, 4, 1), np.uint16), 0, 1, np.dtype(np.uint16))
    assert preprocess.apply(preprocess.parse(("drop_blank", "resize"), 4), image) is None
    image = image.replace(values=rng.integers(0, 9, (4, 4, 4, 1), dtype=np.uint16))
    assert preprocess.apply(preprocess.parse(("drop_blank", "resize"), 4), image) is not None
