import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.interpolate import BSpline

from data import augment as module
from data.augment import TRANSFORMS, RowStream, augment, gaussian_blur, stream_key, warp
from data.errors import UserError

NAMES = tuple(TRANSFORMS)
IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


@pytest.fixture(params=[(16, 16, 1), (9, 13, 3)])
def images(request, rng):
    return rng.uniform(-1, 1, (6, *request.param)).astype(np.float32)


def test_the_nine_names():
    geometry = {"flip", "shift", "rotate", "scale", "elastic"}
    assert set(NAMES) == geometry | {"brightness", "contrast", "noise", "blur"}


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_is_the_identity(images, name):
    found = TRANSFORMS[name](images, np.random.default_rng(0), 0.0)
    exact = name not in ("contrast", "blur")  # these add and take away the mean, or sum weights
    np.testing.assert_allclose(found, images, rtol=0, atol=0 if exact else 3e-7)
    np.testing.assert_array_equal(augment(images, [name], 0, (1,)), images)


@pytest.mark.parametrize("names", [*([name] for name in NAMES), NAMES])
@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_seeded_within_range_and_the_input_untouched(images, names, strength):
    before = images.copy()
    found = augment(images, names, strength, (7, 3))
    np.testing.assert_array_equal(images, before)
    assert found.dtype == np.float32
    assert found.shape == images.shape
    assert found.min() >= -1
    assert found.max() <= 1
    np.testing.assert_array_equal(found, augment(images, names, strength, (7, 3)))
    changed = [augment(images, names, strength, (7, step)) for step in range(4, 24)]
    assert any((other != found).any() for other in changed)
    assert (found != images).any() or any((other != images).any() for other in changed)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_a_batch_differ(name):
    x = np.linspace(-0.6, 0.6, 20 * 20, dtype=np.float32).reshape(1, 20, 20, 1)
    found = augment(np.repeat(x, 16, axis=0), [name], 1.0, (0,))
    distinct = len(np.unique(found.reshape(16, -1), axis=0))
    assert distinct >= (2 if name == "flip" else 8)


@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_rows_are_the_same_however_a_batch_is_divided(images, name):
    names = NAMES if name == "all" else [name]
    whole = augment(images, names, 0.8, (5, 9))
    for size in (1, 2, 3):
        for row in range(0, 6, size):
            part = augment(images[row : row + size], names, 0.8, (5, 9), first_row=row)
            np.testing.assert_array_equal(part, whole[row : row + size])


def test_large_batches_are_worked_on_in_blocks(rng):
    x = rng.uniform(-1, 1, (40, 64, 64, 1)).astype(np.float32)
    assert len(list(module._blocks(x.shape))) > 1
    whole = augment(x, NAMES, 1.0, (2,))
    np.testing.assert_array_equal(augment(x[33:], NAMES, 1.0, (2,), first_row=33), whole[33:])


def test_order_of_names_and_company_do_not_change_choices(images):
    np.testing.assert_array_equal(
        augment(images, ["noise", "flip"], 1, (0,)), augment(images, ["flip", "noise"], 1, (0,))
    )
    flipped = augment(images, ["flip"], 1, (0,))
    together = augment(images, ["flip", "noise"], 1e-6 + 1, (0,))
    assert np.abs(together - flipped).max() < 0.7  # noise on the same flips, not on others


@pytest.mark.parametrize("seed", range(4))
def test_warp_agrees_with_scipy(images, seed):
    rng = np.random.default_rng(seed)
    matrix = np.eye(2) + rng.normal(0, 0.3, (6, 2, 2))
    offset = rng.normal(0, 2, (6, 2))
    maps = np.concatenate([matrix, offset[..., None]], axis=2).astype(np.float32)
    found = warp(images, maps)
    centre = (np.array(images.shape[1:3]) - 1) / 2
    for i, c in np.ndindex(6, images.shape[-1]):
        m, o = maps[i, :, :2].astype(float), maps[i, :, 2].astype(float)
        expected = ndimage.affine_transform(
            images[i, ..., c], m, centre - m @ centre + o, order=1, mode="nearest"
        )
        np.testing.assert_allclose(found[i, ..., c], expected, atol=2e-5)


def test_warp_with_a_field_agrees_with_scipy(images, rng):
    height, width = images.shape[1:3]
    field = rng.normal(0, 1.5, (6, 2, height, width)).astype(np.float32)
    found = warp(images, np.repeat(IDENTITY[None], 6, 0), field)
    grid = np.stack(np.mgrid[:height, :width])
    for i, c in np.ndindex(6, images.shape[-1]):
        expected = ndimage.map_coordinates(
            images[i, ..., c], grid + field[i], order=1, mode="nearest"
        )
        np.testing.assert_allclose(found[i, ..., c], expected, atol=2e-5)


def test_warp_handles_single_rows_and_columns():
    x = np.arange(5, dtype=np.float32)
    maps = np.array([[[1, 0, 0], [0, 1, 1.5]]], np.float32)
    np.testing.assert_array_equal(warp(x.reshape(1, 1, 5, 1), maps).ravel(), [1.5, 2.5, 3.5, 4, 4])
    maps = np.array([[[1, 0, 1.5], [0, 1, 0]]], np.float32)
    np.testing.assert_array_equal(warp(x.reshape(1, 5, 1, 1), maps).ravel(), [1.5, 2.5, 3.5, 4, 4])


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (2, 0), (0, -3), (-1, 4)])
def test_whole_pixel_shift_is_exact_and_repeats_the_edge(images, dy, dx):
    maps = np.repeat(IDENTITY[None], 6, 0)
    maps[:, :, 2] = dy, dx
    rows = np.clip(np.arange(images.shape[1]) + dy, 0, images.shape[1] - 1)
    columns = np.clip(np.arange(images.shape[2]) + dx, 0, images.shape[2] - 1)
    np.testing.assert_array_equal(warp(images, maps), images[:, rows][:, :, columns])


def test_shifts_are_whole_pixels(rng):
    x = rng.uniform(-1, 1, (64, 30, 20, 1)).astype(np.float32)
    found = augment(x, ["shift"], 1.0, (0,))
    shifts = set()
    for i in range(64):
        padded = np.pad(x[i, ..., 0], ((3, 3), (2, 2)), mode="edge")
        fits = [
            (dy, dx)
            for dy in range(7)
            for dx in range(5)
            if np.array_equal(padded[dy : dy + 30, dx : dx + 20], found[i, ..., 0])
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > 15


def test_flip_mirrors_half_the_images_and_twice_is_the_identity(rng):
    x = rng.uniform(-1, 1, (400, 6, 5, 2)).astype(np.float32)
    once = augment(x, ["flip"], 1.0, (0,))
    mirrored = (once != x).any(axis=(1, 2, 3))
    assert 160 < mirrored.sum() < 240
    np.testing.assert_array_equal(once[mirrored], x[mirrored, :, ::-1])
    np.testing.assert_array_equal(augment(once, ["flip"], 1.0, (0,)), x)


@pytest.mark.parametrize("name", ["rotate", "scale"])
def test_magnitudes(name):
    """A smooth ramp shows angle and scale as the direction and length of its gradient."""
    x = np.tile(np.arange(21) - 10.0, (21, 1))
    ramp = np.repeat((x / 40).astype(np.float32)[None, ..., None], 200, axis=0)
    found = augment(ramp, [name], 1.0, (3,))[..., 0]
    gx = (found[:, 10, 12] - found[:, 10, 8]) * 10
    gy = (found[:, 12, 10] - found[:, 8, 10]) * 10
    angle, scale = np.arctan2(gy, gx), np.hypot(gx, gy)
    if name == "rotate":
        np.testing.assert_allclose(scale, 1, atol=1e-5)
        assert (
            stats.kstest(angle, stats.uniform(-module.ROTATE, 2 * module.ROTATE).cdf).pvalue > 0.01
        )
    else:
        np.testing.assert_allclose(angle, 0, atol=1e-5)
        assert (
            stats.kstest(np.log(scale), stats.uniform(-module.SCALE, 2 * module.SCALE).cdf).pvalue
            > 0.01
        )


def test_rotation_turns_the_image_without_bending_it(rng):
    x = ndimage.gaussian_filter(rng.normal(size=(41, 41)), 3).astype(np.float32)
    found = TRANSFORMS["rotate"](np.repeat(x[None, ..., None], 8, 0), rng, 1.0)[..., 0]
    for image in found:
        fits = [
            np.abs(ndimage.rotate(x, angle, reshape=False, order=1) - image)[10:31, 10:31].max()
            for angle in np.linspace(-15, 15, 301)
        ]
        assert min(fits) < 0.02 * np.ptp(x)


def test_composition_warps_once(images):
    """Two maps in one warp: the same geometry as one after the other, without blurring twice."""
    first, then = (np.repeat(IDENTITY[None], 6, 0) for _ in range(2))
    first[:, :, 2] = 1, -2
    then[:, 1, 1] = -1
    composed = module._compose(first, then)
    np.testing.assert_array_equal(warp(images, composed), warp(warp(images, first), then))


@pytest.mark.parametrize("size", [16, 30])
def test_elastic_is_a_bounded_smooth_b_spline(size):
    field = module._elastic_field((50, size, 16, 1), np.random.default_rng(0), 1.0)
    assert np.abs(field[:, 0]).max() <= module.ELASTIC * size
    assert np.abs(field[:, 1]).max() <= module.ELASTIC * 16
    assert np.abs(field).max() > module.ELASTIC * 4
    # One displaced control point moves pixels as scipy's cubic B-spline says.
    basis = module._spline_basis(size)
    np.testing.assert_allclose(basis.sum(axis=1), 1, atol=1e-6)
    position = (np.arange(size) + 0.5) / size * module.ELASTIC_CELLS
    cardinal = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    expected = np.nan_to_num(cardinal(position - 1))  # control point 2 stands at cell edge 1
    np.testing.assert_allclose(basis[:, 2], expected, atol=1e-6)


@pytest.mark.parametrize("deviation", [0.3, 0.75, 1.6])
def test_gaussian_blur_agrees_with_scipy(images, deviation):
    deviations = np.linspace(0, deviation, 6)
    radius = int(np.ceil(4 * deviation))
    found = gaussian_blur(images, deviations, radius)
    np.testing.assert_array_equal(found[0], images[0])
    for i, c in np.ndindex(6, images.shape[-1]):
        if i == 0:
            continue
        expected = ndimage.gaussian_filter(
            images[i, ..., c].astype(float), deviations[i], mode="nearest", radius=radius
        )
        np.testing.assert_allclose(found[i, ..., c], expected, atol=1e-6)


def test_brightness_and_contrast(images):
    brighter = TRANSFORMS["brightness"](images, np.random.default_rng(0), 1.0) - images
    np.testing.assert_allclose(
        brighter, brighter.mean((1, 2, 3), keepdims=True) + 0 * brighter, atol=1e-6
    )
    assert np.abs(brighter).max() <= module.BRIGHTNESS
    other = TRANSFORMS["contrast"](images, np.random.default_rng(0), 1.0)
    np.testing.assert_allclose(other.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-6)
    factor = other.std((1, 2, 3)) / images.std((1, 2, 3))
    assert (np.abs(np.log(factor)) <= module.CONTRAST + 1e-5).all()


def test_noise_is_normal_with_a_level_per_image():
    x = np.zeros((60, 33, 33, 1), np.float32)
    noise = TRANSFORMS["noise"](x, RowStream(stream_key((1,)), 0), 1.0).reshape(60, -1)
    level = noise.std(axis=1)
    assert level.max() < module.NOISE * 1.05
    assert stats.kstest(level, stats.uniform(0, module.NOISE).cdf).pvalue > 0.01
    scaled = noise / level[:, None]
    assert stats.kstest(scaled.ravel()[::7], "norm").pvalue > 0.001
    lag = (scaled[:, 1:] * scaled[:, :-1]).mean()
    assert abs(lag) < 0.02


def test_row_streams_are_uniform_and_fresh_at_each_call():
    stream = RowStream(stream_key((3, 4)), 2)
    first, second = stream.random((5, 11)), stream.random((5, 11))
    assert not np.intersect1d(first, second).size
    assert len(np.unique(first)) == 55
    whole = RowStream(stream_key((3, 4)), 0)
    np.testing.assert_array_equal(whole.random((9, 11))[2:7], first)
    many = RowStream(stream_key((0,)), 0).random((1000, 3)).ravel()
    assert stats.kstest(many, "uniform").pvalue > 0.01


def test_unknown_names_are_refused(images):
    with pytest.raises(UserError, match="no augmentation 'mirror'; choose from flip, shift"):
        augment(images, ["mirror"], 1, (0,))
