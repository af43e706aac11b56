import numpy as np
import pytest
from numpy.polynomial import polynomial
from scipy import stats

from data.augment import intensity

from .conftest import apply


def _axes(images: np.ndarray) -> tuple[int, ...]:
    return tuple(range(1, images.ndim))


def test_brightness_and_contrast(images):
    axes = _axes(images)
    brighter = apply("brightness", images, np.random.default_rng(0)) - images
    np.testing.assert_allclose(
        brighter, brighter.mean(axes, keepdims=True) + 0 * brighter, atol=1e-6
    )
    assert np.abs(brighter).max() <= intensity.BRIGHTNESS
    other = apply("contrast", images, np.random.default_rng(0))
    np.testing.assert_allclose(other.mean(axes), images.mean(axes), atol=1e-6)
    factor = other.std(axes) / images.std(axes)
    assert (np.abs(np.log(factor)) <= intensity.CONTRAST + 1e-5).all()


def test_gamma_is_a_power_of_the_intensity():
    x = np.repeat(np.linspace(-0.99, 0.98, 50, dtype=np.float32).reshape(1, 5, 10, 1), 200, 0)
    found = apply("gamma", x, np.random.default_rng(0)).astype(float)
    power = np.log((found + 1) / 2) / np.log((x.astype(float) + 1) / 2)
    power = power.reshape(200, -1)
    np.testing.assert_allclose(power, power[:, :1] + 0 * power, rtol=1e-3)
    spread = stats.uniform(-intensity.GAMMA, 2 * intensity.GAMMA)
    assert stats.kstest(np.log(power[:, 25]), spread.cdf).pvalue > 0.01
    ends = np.array([-1, 1], np.float32).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(apply("gamma", ends, np.random.default_rng(0)), ends)


@pytest.mark.parametrize("sizes", [(9, 12), (8, 9, 10)])
def test_the_bias_field_is_the_exponential_of_a_cubic(rng, sizes):
    x = rng.uniform(-0.9, 0.9, (30, *sizes, 2)).astype(np.float32)
    found = apply("bias", x, np.random.default_rng(0)).astype(float)
    log_field = np.log((found + 1) / (x.astype(float) + 1))
    np.testing.assert_allclose(log_field[..., 0], log_field[..., 1], atol=1e-4)
    points = np.meshgrid(*(np.linspace(-1, 1, size) for size in sizes), indexing="ij")
    vander = polynomial.polyvander2d if len(sizes) == 2 else polynomial.polyvander3d
    powers = vander(*(p.ravel() for p in points), [3] * len(sizes))
    fit = np.linalg.lstsq(powers, log_field[..., 0].reshape(30, -1).T)[0].T
    fit = fit.reshape(30, *[4] * len(sizes))
    degree = np.indices(fit.shape[1:]).sum(axis=0)
    free = (degree > 0) & (degree < 4)
    np.testing.assert_allclose(fit[:, ~free], 0, atol=2e-4)
    spread = stats.uniform(-intensity.BIAS, 2 * intensity.BIAS)
    assert stats.kstest(fit[:, free].ravel(), spread.cdf).pvalue > 0.01


def test_colour_scales_and_turns_chroma_and_keeps_the_mean(rng):
    x = rng.uniform(-0.5, 0.5, (200, 4, 5, 3)).astype(np.float32)
    found = apply("colour", x, np.random.default_rng(0))
    np.testing.assert_allclose(found.mean(-1), x.mean(-1), atol=1e-6)

    def chroma(image):
        red, green, blue = np.moveaxis(image.astype(float), -1, 0)
        return (2 * red - green - blue + 1j * np.sqrt(3) * (green - blue)).reshape(200, -1)

    change = np.log(chroma(found) / chroma(x))
    np.testing.assert_allclose(change, change[:, :1] + 0 * change, atol=1e-3)
    change = change.mean(axis=1)
    for values, reach in ((change.real, intensity.SATURATION), (change.imag, intensity.HUE)):
        assert stats.kstest(values, stats.uniform(-reach, 2 * reach).cdf).pvalue > 0.01
    with pytest.raises(ValueError, match="three channels, not 1"):
        apply("colour", x[..., :1], rng)


@pytest.mark.parametrize("sizes", [(20, 30), (10, 20, 30)])
def test_cutout_replaces_one_box_by_the_mean(rng, sizes):
    x = rng.uniform(-1, 1, (100, *sizes, 2)).astype(np.float32)
    found = apply("cutout", x, rng)
    sides, centres = [], []
    for before, after in zip(x, found, strict=True):
        changed = (before != after).all(axis=-1)
        assert (changed == (before != after).any(axis=-1)).all()
        box = [np.flatnonzero(changed.any(axis=tuple(set(range(len(sizes))) - {a})))
               for a in range(len(sizes))]  # fmt: skip
        assert changed.sum() == np.prod([len(places) for places in box])
        assert all((np.diff(places) == 1).all() for places in box)
        mean = before.mean(axis=tuple(range(len(sizes))), dtype=float)
        np.testing.assert_allclose(after[changed], mean + 0 * after[changed], atol=1e-6)
        sides.append([len(places) for places in box])
        centres.append([places.mean() for places in box])
    whole = [round(size * intensity.CUTOUT) for size in sizes]
    assert np.max(sides, axis=0).tolist() == whole
    # A centre is as likely in the left half as in the right one.
    assert (np.abs(np.mean(centres, axis=0) / sizes - 0.5) < 0.1).all()


@pytest.mark.parametrize("name", ["gamma", "contrast", "brightness", "colour", "blur", "lowres"])
def test_a_volume_of_equal_slices_changes_like_one_of_them(rng, name):
    flat = rng.uniform(-0.9, 0.9, (5, 12, 10, 3)).astype(np.float32)
    volume = np.repeat(flat[:, None], 8, axis=1)
    expected = apply(name, flat, np.random.default_rng(3))
    for z in range(8):
        found = apply(name, volume, np.random.default_rng(3))[:, z]
        np.testing.assert_allclose(found, expected, atol=2e-6)
