import numpy as np
import pytest
from scipy import ndimage, stats

from data.augment import degradation
from data.augment.degradation import gaussian_blur
from data.augment.streams import RowStream, stream_key

from .conftest import apply


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


def _through(line: np.ndarray, pixels: int) -> np.ndarray:
    """Means over `pixels` equal parts of a line, enlarged again by scipy."""
    integral = np.concatenate([[0], np.cumsum(line)])
    edges = np.linspace(0, len(line), pixels + 1)
    means = np.diff(np.interp(edges, np.arange(len(line) + 1), integral)) / np.diff(edges)
    return ndimage.zoom(means, len(line) / pixels, order=1, mode="nearest", grid_mode=True)


@pytest.mark.parametrize(
    ("size", "pixels"), [(16, 16), (16, 8), (16, 11), (13, 7), (64, 33), (5, 1)]
)
def test_reduction_is_means_and_linear_interpolation(rng, size, pixels):
    line = rng.normal(size=size)
    found = degradation.reduction(size, pixels) @ line
    np.testing.assert_allclose(found, _through(line, pixels), atol=1e-5)


def test_low_resolution_is_the_same_along_all_axes_and_at_most_an_octave(images):
    found = apply("lowres", images, np.random.default_rng(0))
    sizes = images.shape[1:-1]
    factors = np.exp2(-np.random.default_rng(0).random(6, np.float32))
    for image, factor, after in zip(images.astype(float), factors, found, strict=True):
        for axis, size in enumerate(sizes):
            image = np.apply_along_axis(_through, axis, image, round(size * float(factor)))
        np.testing.assert_allclose(after, image, atol=1e-5)


def test_noise_is_normal_with_a_level_per_image():
    x = np.zeros((60, 33, 33, 1), np.float32)
    noise = apply("noise", x, RowStream(stream_key((1,)), 0)).reshape(60, -1)
    level = noise.std(axis=1)
    assert level.max() < degradation.NOISE * 1.05
    assert stats.kstest(level, stats.uniform(0, degradation.NOISE).cdf).pvalue > 0.01
    scaled = noise / level[:, None]
    assert stats.kstest(scaled.ravel()[::7], "norm").pvalue > 0.001
    lag = (scaled[:, 1:] * scaled[:, :-1]).mean()
    assert abs(lag) < 0.02


@pytest.mark.parametrize("signal", [0.0, 0.05, 0.5])
def test_rician_noise_has_rices_distribution(signal):
    x = np.full((60, 20, 15, 4, 1), 2 * signal - 1, np.float32)
    found = (apply("rician", x, RowStream(stream_key((1,)), 0)).reshape(60, -1) + 1) / 2
    known = RowStream(stream_key((1,)), 0).random((60, 1))[:, 0].astype(float) * degradation.RICIAN
    # The second moment of Rice's distribution is the signal's square and twice the variance.
    error = np.mean(found.astype(float) ** 2, axis=1) - (signal**2 + 2 * known**2)
    assert (np.abs(error) < 5 * 2 * (signal * known + known**2) / np.sqrt(1200)).all()
    worst = 1.0
    for values, deviation in zip(found, known, strict=True):
        law = stats.rice(signal / deviation, scale=deviation)
        worst = min(worst, stats.kstest(values, law.cdf).pvalue)
    assert worst > 1e-4  # of 60
