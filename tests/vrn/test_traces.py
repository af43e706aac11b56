import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from vrn import traces


def images(count: int = 4, size: int = 16, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, size, size, channels)).astype(np.float32)


@pytest.mark.parametrize("size", [8, 12])
def test_remove_traces_is_pillows_antialiased_bilinear(size):
    x = images()
    found = np.asarray(traces.remove_traces(x, size))
    assert found.shape == (4, size, size, 2)
    for i, c in ((0, 0), (3, 1)):
        by_pillow = Image.fromarray(x[i, :, :, c]).resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(found[i, :, :, c], by_pillow, atol=2e-6)


def test_remove_traces_hides_texture_finer_than_its_grid():
    checks = (np.indices((16, 16)).sum(0) % 2 - 0.5)[None, :, :, None]
    left = np.asarray(traces.remove_traces(checks.astype(np.float32), 8))
    assert np.abs(left).max() < 0.03 * np.abs(checks).max()


def test_images_are_never_enlarged():
    np.testing.assert_array_equal(traces.remove_traces(images(), 64), images())


def test_blur_is_scipys_inside_and_normalised_at_the_edge():
    x, sigma = images(), np.array([0.0, 0.4, 1.0, 2.0], np.float32)
    found = np.asarray(traces.gaussian_blur(x, sigma))
    np.testing.assert_array_equal(found[0], x[0])
    for i in (1, 2, 3):
        blur = {"sigma": sigma[i], "mode": "constant", "truncate": 40.0}
        weight = ndimage.gaussian_filter(np.ones((16, 16)), **blur)
        for c in range(2):
            expected = ndimage.gaussian_filter(x[i, :, :, c].astype(np.float64), **blur) / weight
            np.testing.assert_allclose(found[i, :, :, c], expected, atol=2e-6)


def test_preparation_is_random_in_training_only():
    prepare = traces.TraceRemoval(size=8, blur=1.0, noise=0.2)
    x = images()
    np.testing.assert_array_equal(prepare(x, None), traces.remove_traces(x, 8))
    keys = [jax.random.key(seed) for seed in (0, 0, 1)]
    first, again, other = (np.asarray(prepare(x, key)) for key in keys)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.abs(first).max() <= 1


def test_jitter_has_the_strength_it_claims():
    x = np.zeros((400, 8, 8, 1), np.float32)
    found = np.asarray(traces.jitter(x, jax.random.key(0), blur=1.0, noise=0.2))
    # A level uniform on [0, 0.2] gives the variance 0.2^2 / 3.
    assert found.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.05)
    still = traces.jitter(images(), jax.random.key(0), blur=0.0, noise=0.0)
    np.testing.assert_array_equal(still, images())
