"""Each step beside NumPy, SciPy or arithmetic, and its way back."""

import json

import numpy as np
import pytest
from scipy import ndimage

from data import preprocess
from data.errors import RefusedError, UserError
from data.preprocess import Image
from data.preprocess.image import to_pixels, to_units

TOP = 65535


def _smooth(shape: tuple[int, int], low: float = -1000, high: float = 1000) -> np.ndarray:
    """One wave across each axis, [*shape, 1], so that resizing loses little."""
    rows, columns = (np.linspace(0, 2 * np.pi, n) for n in shape)
    wave = (np.sin(rows)[:, None] + np.cos(columns)[None]) / 4 + 0.5
    return (low + wave * (high - low))[..., None]


def _stored(values: np.ndarray, low: float, high: float, dtype=np.uint16, **known) -> Image:
    return Image(to_pixels(values, low, high, np.dtype(dtype)), low, high, np.dtype(dtype), **known)


def _there_and_back(names: tuple[str, ...], size: int, image: Image) -> tuple[Image, np.ndarray]:
    steps = preprocess.parse(names, size)
    after, undos = preprocess.apply(steps, image)
    json.loads(undos)
    return after, preprocess.undo(steps, after.values, undos, after.low, after.high)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("ends", [(-1024.0, 3071.0), (3071.0, -1024.0)])
def test_pixels_come_back_from_units_exactly(dtype, ends):
    top = np.iinfo(dtype).max
    pixels = np.arange(top + 1, dtype=dtype).reshape(-1, 16, 1)
    units = to_units(Image(pixels, *ends, np.dtype(dtype)))
    line = np.linspace(*ends, top + 1)
    np.testing.assert_allclose(units.values.ravel(), line, atol=1e-9)
    np.testing.assert_array_equal(to_pixels(units.values, *ends, np.dtype(dtype)), pixels)


def test_window(rng):
    values = rng.uniform(-1000, 1000, (16, 16, 1))
    after, back = _there_and_back(("window(40, 400)", "resize"), 16, _stored(values, -1000, 1000))
    assert (after.low, after.high) == (-160, 240)
    expected = np.clip((values + 160) / 400, 0, 1) * TOP
    # half a quantum of the window and, before it, of the file's range, five times as wide
    np.testing.assert_allclose(after.values, expected, atol=0.5 + 2.5 + 1e-6)
    np.testing.assert_allclose(
        back, np.clip(values, -160, 240), atol=400 / TOP / 2 + 2000 / TOP / 2
    )


def test_inverted_images_stay_inverted(rng):
    values = rng.uniform(0, 100, (8, 8, 1))
    image = _stored(values, 100, 0)
    after, back = _there_and_back(("window(50, 40)", "resize"), 8, image)
    assert (after.low, after.high) == (70, 30)
    assert after.values[values > 71].max() == 0
    np.testing.assert_allclose(back, np.clip(values, 30, 70), atol=0.01)


def test_window_of_the_header(rng):
    values = rng.uniform(0, 100, (8, 8, 1))
    with_one = _stored(values, 0, 100, window=(20.0, 60.0))
    after, _ = preprocess.apply(preprocess.parse(("window", "resize"), 8), with_one)
    assert (after.low, after.high) == (20, 60)
    after, _ = preprocess.apply(preprocess.parse(("window", "resize"), 8), _stored(values, 0, 100))
    assert (after.low, after.high) == (0, 100)


def test_clip_percentile_is_numpys(rng):
    values = rng.normal(0, 300, (32, 32, 1))
    image = _stored(values, values.min(), values.max())
    after, back = _there_and_back(("clip_percentile(1, 99)", "resize"), 32, image)
    low, high = np.percentile(values, (1, 99))
    quantum = (values.max() - values.min()) / TOP
    np.testing.assert_allclose((after.low, after.high), (low, high), atol=quantum)
    np.testing.assert_allclose(back, np.clip(values, low, high), atol=2 * quantum)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_scale_of_the_image_loses_nothing(rng, dtype):
    values = rng.uniform(-0.4, 0.3, (8, 8, 1))
    image = _stored(values, -1, 1, dtype)
    after, back = _there_and_back(("scale(image)", "resize"), 8, image)
    np.testing.assert_allclose((after.low, after.high), (values.min(), values.max()), atol=2e-5)
    darkest, brightest = (-1, 1) if dtype == np.float32 else (0, TOP)
    assert (after.values.min(), after.values.max()) == (darkest, brightest)
    np.testing.assert_allclose(back, values, atol=1e-7 if dtype == np.float32 else 2.5e-5)


def test_scale_of_the_data_set_waits_for_all_images(rng):
    values = rng.uniform(0, 100, (8, 8, 1))
    steps = preprocess.parse(("window(50, 40)", "scale(dataset)", "resize"), 8)
    after, _ = preprocess.apply(steps, _stored(values, 0, 100))
    assert preprocess.of_dataset(steps)
    assert after.in_units
    np.testing.assert_allclose(after.values, np.clip(values, 30, 70), atol=0.001)


def test_resample_is_linear_in_millimetres():
    image = _stored(_smooth((40, 60)), -1000, 1000, spacing=(2.0, 0.5))
    after, back = _there_and_back(("resample(1.0)", "centre(128)", "resize"), 128, image)
    steps = preprocess.parse(("resample(1.0)", "resize"), 128)
    small, undo = steps[0](image)
    assert small.values.shape == (80, 30, 1)
    assert small.spacing == (1.0, 1.0)
    assert undo == {"shape": [40, 60]}
    wide = ndimage.zoom(
        image.values[..., 0].astype(float), (2, 0.5), order=1, grid_mode=True, mode="nearest"
    )
    np.testing.assert_allclose(small.values[2:-2, 2:-2, 0], wide[2:-2, 2:-2], atol=0.01 * TOP)
    assert after.values.shape == (128, 128, 1)
    # a wave of 60 pixels on 30: its second derivative times a pixel squared
    np.testing.assert_allclose(back[3:-3, 3:-3], _smooth((40, 60))[3:-3, 3:-3], atol=20)


def test_resample_needs_a_spacing():
    steps = preprocess.parse(("resample(1.0)", "resize"), 8)
    with pytest.raises(RefusedError, match="does not tell its pixel spacing"):
        preprocess.apply(steps, _stored(_smooth((8, 8)), -1000, 1000))


@pytest.mark.parametrize("size", [7, 8, 24])
def test_centre_of_mass(rng, size):
    pixels = np.zeros((16, 20, 1), np.uint8)
    pixels[9:14, 2:7] = rng.integers(100, 255, (5, 5, 1))
    image = Image(pixels, np.nan, np.nan, np.dtype(np.uint8))
    after, back = _there_and_back((f"centre({size})", "resize"), size, image)
    middle = ndimage.center_of_mass(after.values[..., 0])
    np.testing.assert_allclose(middle, (size - 1) / 2, atol=0.5 + 1e-9)
    np.testing.assert_array_equal(np.rint(back), pixels)


def test_centre_of_nothing_is_the_middle():
    image = Image(np.zeros((9, 9, 1), np.uint8), np.nan, np.nan, np.dtype(np.uint8))
    after, undos = preprocess.apply(preprocess.parse(("centre(3)", "resize"), 3), image)
    assert json.loads(undos)[0]["corner"] == [3, 3]
    assert not after.values.any()


@pytest.mark.parametrize(("fit", "seen"), [("stretch", 1.0), ("pad", 1.0), ("crop", 2 / 3)])
def test_resize_keeps_the_aspect_where_it_should(fit, seen):
    pixels = np.zeros((40, 60, 1), np.uint8)
    pixels[10:30, 20:40] = 200  # a square
    image = Image(pixels, np.nan, np.nan, np.dtype(np.uint8), spacing=(1.0, 1.0))
    after, back = _there_and_back((f"resize({fit})",), 64, image)
    bright = after.values[..., 0] > 100
    height, width = bright.any(axis=1).sum(), bright.any(axis=0).sum()
    assert (abs(height - width) > 5) == (fit == "stretch")
    np.testing.assert_allclose(after.spacing[0] == after.spacing[1], fit != "stretch")
    middle = slice(None), slice(round(30 - 30 * seen), round(30 + 30 * seen))
    inside = ndimage.binary_erosion(pixels[..., 0] > 0, iterations=2)
    outside = ~ndimage.binary_dilation(pixels[..., 0] > 0, iterations=2)
    assert back.shape == pixels.shape
    np.testing.assert_allclose(back[..., 0][inside], 200, atol=2)
    np.testing.assert_allclose(back[middle][..., 0][outside[middle]], 0, atol=2)


def test_resize_alone_is_what_it_was(rng):
    from data.images import resize

    pixels = rng.integers(0, 4096, (20, 30, 3), dtype=np.uint16)
    image = Image(pixels, 5.0, 9.0, pixels.dtype)
    after, _ = preprocess.apply(preprocess.parse(("resize",), 16), image)
    np.testing.assert_array_equal(after.values, resize(pixels, 16))
    assert (after.low, after.high) == (5, 9)


@pytest.mark.parametrize(("step", "bright", "left"), [
    ("drop_blank", 0, True), ("drop_blank", 1, False), ("drop_blank(0.1)", 9, True),
    ("drop_blank(0.1)", 11, False),
])  # fmt: skip
def test_blank_images_are_left_out(step, bright, left):
    pixels = np.full((10, 10, 1), 7, np.uint8)
    pixels.ravel()[:bright] = 90
    image = Image(pixels, np.nan, np.nan, pixels.dtype)
    assert (preprocess.apply(preprocess.parse((step, "resize"), 10), image) is None) == left


@pytest.mark.parametrize(("names", "words"), [
    ((), "needs 'resize' once"),
    (("resize", "resize"), "needs 'resize' once"),
    (("sharpen", "resize"), "no step 'sharpen'; choose from window"),
    (("window(40)", "resize"), "a centre and a width"),
    (("window(40, -1)", "resize"), "a centre and a width above 0"),
    (("window(40, 1, 2)", "resize"), "positional argument"),
    (("clip_percentile(99, 1)", "resize"), "two percentages"),
    (("scale(volume)", "resize"), "of the image or of the dataset"),
    (("scale(dataset)", "window(1, 2)", "resize"), "put it last of these"),
    (("resample(0)", "resize"), "spacing above 0"),
    (("centre(1.5)", "resize"), "whole number"),
    (("drop_blank(2)", "resize"), "share"),
    (("resize(squeeze)",), "stretch, pad, crop"),
    (("resize(", "resize"), "cannot read 'resize\\('"),
])  # fmt: skip
def test_mistakes(names, words):
    with pytest.raises(UserError, match=words) as error:
        preprocess.parse(names, 16)
    assert "--config.data.preprocess" in str(error.value)
