import itertools

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation

from data.augment import augment, augment_masks, fields, geometry
from data.augment.geometry import warp

from .conftest import apply


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_warp_agrees_with_scipy(images, seed, nearest):
    rng, axes = np.random.default_rng(seed), images.ndim - 2
    matrix = np.eye(axes) + rng.normal(0, 0.3, (6, axes, axes))
    offset = rng.normal(0, 2, (6, axes))
    maps = np.concatenate([matrix, offset[..., None]], axis=2).astype(np.float32)
    found = warp(images, maps, nearest=nearest)
    centre = (np.array(images.shape[1:-1]) - 1) / 2
    for i, c in np.ndindex(6, images.shape[-1]):
        m, o = maps[i, :, :-1].astype(float), maps[i, :, -1].astype(float)
        expected = ndimage.affine_transform(
            images[i, ..., c], m, centre - m @ centre + o, order=1 - nearest, mode="nearest"
        )
        np.testing.assert_allclose(found[i, ..., c], expected, atol=3e-5)


def test_warp_with_a_field_agrees_with_scipy(images, rng):
    sizes = images.shape[1:-1]
    field = rng.normal(0, 1.5, (6, len(sizes), *sizes)).astype(np.float32)
    identity = geometry.identity_maps(6, len(sizes))
    found, nearest = (warp(images, identity, field, nearest=flag) for flag in (False, True))
    grid = np.indices(sizes)
    for i, c in np.ndindex(6, images.shape[-1]):
        for order, image in ((1, found), (0, nearest)):
            expected = ndimage.map_coordinates(
                images[i, ..., c], grid + field[i], order=order, mode="nearest"
            )
            np.testing.assert_allclose(image[i, ..., c], expected, atol=3e-5)


def test_warp_handles_single_rows_and_columns():
    x = np.arange(5, dtype=np.float32)
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[1 + axis] = 5
        maps = geometry.identity_maps(1, 3)
        maps[0, axis, 3] = 1.5
        np.testing.assert_array_equal(warp(x.reshape(shape), maps).ravel(), [1.5, 2.5, 3.5, 4, 4])
    maps = np.array([[[1, 0, 0], [0, 1, 1.5]]], np.float32)
    np.testing.assert_array_equal(warp(x.reshape(1, 1, 5, 1), maps).ravel(), [1.5, 2.5, 3.5, 4, 4])
    maps = np.array([[[1, 0, 1.5], [0, 1, 0]]], np.float32)
    np.testing.assert_array_equal(warp(x.reshape(1, 5, 1, 1), maps).ravel(), [1.5, 2.5, 3.5, 4, 4])


def test_pixels_beyond_what_float32_counts_are_found():
    volume = (np.arange(260 * 260 * 260, dtype=np.int32) % 251).astype(np.uint8)
    volume = volume.reshape(1, 260, 260, 260, 1)
    maps = geometry.identity_maps(1, 3)
    maps[0, 2, 3] = 1
    moved = warp(volume, maps, nearest=True)
    np.testing.assert_array_equal(moved[:, 250:, :, :-1], volume[:, 250:, :, 1:])


def test_a_volume_moved_in_its_planes_is_its_slices_moved(rng):
    volume = rng.uniform(-1, 1, (5, 6, 11, 8, 2)).astype(np.float32)
    plane = geometry.identity_maps(5, 2) + rng.normal(0, 0.4, (5, 2, 3)).astype(np.float32)
    maps = geometry.identity_maps(5, 3)
    maps[:, 1:, 1:] = plane
    flat = rng.normal(0, 1, (5, 2, 11, 8)).astype(np.float32)
    field = np.zeros((5, 3, 6, 11, 8), np.float32)
    field[:, 1:] = flat[:, :, None]
    found = warp(volume, maps, field)
    for z in range(6):
        np.testing.assert_array_equal(found[:, z], warp(volume[:, z], plane, flat))


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (2, 0), (0, -3), (-1, 4)])
def test_whole_pixel_shift_is_exact_and_repeats_the_edge(rng, dy, dx):
    images = rng.uniform(-1, 1, (6, 9, 13, 3)).astype(np.float32)
    maps = geometry.identity_maps(6, 2)
    maps[:, :, 2] = dy, dx
    rows = np.clip(np.arange(images.shape[1]) + dy, 0, images.shape[1] - 1)
    columns = np.clip(np.arange(images.shape[2]) + dx, 0, images.shape[2] - 1)
    np.testing.assert_array_equal(warp(images, maps), images[:, rows][:, :, columns])


@pytest.mark.parametrize("sizes", [(30, 20), (10, 30, 20)])
def test_shifts_are_whole_pixels(rng, sizes):
    x = rng.uniform(-1, 1, (64, *sizes, 1)).astype(np.float32)
    found = augment(x, ["shift"], 1.0, (0,))
    reach = [size // 10 for size in sizes]
    shifts = set()
    for i in range(64):
        padded = np.pad(x[i, ..., 0], [(r, r) for r in reach], mode="edge")
        fits = [
            start
            for start in itertools.product(*(range(2 * r + 1) for r in reach))
            if np.array_equal(
                padded[tuple(slice(s, s + n) for s, n in zip(start, sizes, strict=True))],
                found[i, ..., 0],
            )
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > 15


def test_flip_mirrors_half_the_images_and_twice_is_the_identity(rng):
    for sizes in ((6, 5), (3, 4, 5)):
        x = rng.uniform(-1, 1, (400, *sizes, 2)).astype(np.float32)
        once = augment(x, ["flip"], 1.0, (0,))
        mirrored = (once != x).any(axis=tuple(range(1, x.ndim)))
        assert 160 < mirrored.sum() < 240
        np.testing.assert_array_equal(once[mirrored], np.flip(x[mirrored], -2))
        np.testing.assert_array_equal(augment(once, ["flip"], 1.0, (0,)), x)


def _uniform(values: np.ndarray, reach: float) -> bool:
    """Whether values may be uniform from -reach to reach."""
    return stats.kstest(values, stats.uniform(-reach, 2 * reach).cdf).pvalue > 0.01


@pytest.mark.parametrize("name", ["rotate", "scale", "shear"])
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
        assert _uniform(angle, geometry.ROTATE)
    elif name == "scale":
        np.testing.assert_allclose(angle, 0, atol=1e-5)
        assert _uniform(np.log(scale), geometry.SCALE)
    else:
        np.testing.assert_allclose(gx, 1, atol=1e-5)
        assert _uniform(gy, geometry.SHEAR)


def test_volumes_turn_in_three_planes():
    maps = geometry.MAPS["rotate"]((300, 8, 8, 8, 1), np.random.default_rng(0), 1.0)
    turns = Rotation.from_matrix(maps[:, :, :3])
    np.testing.assert_allclose(turns.as_matrix(), maps[:, :, :3], atol=1e-6)  # turns indeed
    angles = turns.as_euler("ZYX")
    for k in range(3):
        assert _uniform(angles[:, k], geometry.ROTATE)
    assert np.abs(np.corrcoef(angles.T) - np.eye(3)).max() < 0.2


def test_volumes_are_sheared_along_every_axis():
    maps = geometry.MAPS["shear"]((300, 8, 8, 8, 1), np.random.default_rng(0), 1.0)
    np.testing.assert_array_equal(maps[:, range(3), range(3)], 1)
    for i, j in itertools.permutations(range(3), 2):
        assert _uniform(maps[:, i, j], geometry.SHEAR)


def test_rotation_turns_the_image_without_bending_it(rng):
    x = ndimage.gaussian_filter(rng.normal(size=(41, 41)), 3).astype(np.float32)
    found = apply("rotate", np.repeat(x[None, ..., None], 8, 0), rng)[..., 0]
    for image in found:
        fits = [
            np.abs(ndimage.rotate(x, angle, reshape=False, order=1) - image)[10:31, 10:31].max()
            for angle in np.linspace(-15, 15, 301)
        ]
        assert min(fits) < 0.02 * np.ptp(x)


def test_composition_warps_once(images):
    """Two maps in one warp: the same geometry as one after the other, without blurring twice."""
    axes = images.ndim - 2
    first, then = (geometry.identity_maps(6, axes) for _ in range(2))
    first[:, :2, -1] = 1, -2
    then[:, -1, -2] = -1
    composed = geometry.compose(first, then)
    np.testing.assert_array_equal(warp(images, composed), warp(warp(images, first), then))


@pytest.mark.parametrize("sizes", [(16, 16), (30, 16), (8, 30, 16)])
def test_elastic_is_a_bounded_smooth_b_spline(sizes):
    field = geometry.elastic_field((50, *sizes, 1), np.random.default_rng(0), 1.0)
    assert field.shape == (50, len(sizes), *sizes)
    for axis, size in enumerate(sizes):
        assert np.abs(field[:, axis]).max() <= geometry.ELASTIC * size
        assert np.abs(field[:, axis]).max() > geometry.ELASTIC * size / 4


@pytest.mark.parametrize("size", [16, 30])
def test_the_basis_of_the_elastic_field_is_scipys(size):
    basis = fields.spline_basis(size, 4)
    np.testing.assert_allclose(basis.sum(axis=1), 1, atol=1e-6)
    position = (np.arange(size) + 0.5) / size * 4
    cardinal = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    expected = np.nan_to_num(cardinal(position - 1))  # control point 2 stands at cell edge 1
    np.testing.assert_allclose(basis[:, 2], expected, atol=1e-6)


def test_fields_are_tensor_products(rng):
    bases = [rng.normal(size=(size, 4)) for size in (5, 6, 7)]
    for axes, formula in ((2, "bkij,yi,xj->bkyx"), (3, "bkhij,zh,yi,xj->bkzyx")):
        coefficients = rng.normal(size=(3, 2, *[4] * axes))
        expected = np.einsum(formula, coefficients, *bases[-axes:])
        np.testing.assert_allclose(fields.expand(coefficients, bases[-axes:]), expected, atol=1e-12)


@pytest.mark.parametrize("sizes", [(24, 20), (10, 14, 12)])
@pytest.mark.parametrize("names", [*([name] for name in geometry.NAMES), geometry.NAMES])
def test_masks_go_where_their_images_go(sizes, names):
    """Images hold the coordinates of their pixels, masks the number of each pixel."""
    grid = np.stack(np.indices(sizes), axis=-1)
    image = np.repeat((grid / 64).astype(np.float32)[None], 9, axis=0)
    number = np.repeat(np.arange(np.prod(sizes), dtype=np.uint16).reshape(1, *sizes, 1), 9, axis=0)
    moved = augment(image, names, 2.5, (5,), first_row=4)
    mask = augment_masks(number, (*names, "noise", "cutout"), 2.5, (5,), first_row=4)
    assert mask.dtype == np.uint16
    nearest = np.stack(np.unravel_index(mask[..., 0], sizes), axis=-1)
    assert np.abs(nearest - moved * 64.0).max() < 0.5001
    assert (mask != number).any()


def test_masks_without_geometry_stay_as_they_are(rng):
    mask = rng.integers(0, 4, (3, 8, 8, 1))
    for names, strength in ((("noise", "cutout", "mixup"), 1.0), (("flip",), 0.0), ((), 1.0)):
        np.testing.assert_array_equal(augment_masks(mask, names, strength, (0,)), mask)
