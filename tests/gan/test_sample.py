"""Sampling: an image is a function of its own seed and label, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from data.records import from_unit
from gan.models.dcgan import Generator
from gan.sample import BLOCK, generate, latents, quantise


def test_latents_are_standard_normal_and_differ_by_seed():
    z = np.asarray(latents(jnp.arange(200, dtype=jnp.uint32), 64))
    assert z.shape == (200, 64)
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(z) - np.eye(200)).max() < 0.6


def test_each_latent_depends_on_its_own_seed_only():
    seeds = jnp.array([7, 2**32 - 1, 0], jnp.uint32)
    z = np.asarray(latents(seeds, 16))
    np.testing.assert_array_equal(z[::-1], latents(seeds[::-1], 16))
    for row, seed in zip(z, seeds, strict=True):
        np.testing.assert_array_equal(row, latents(seed[None], 16)[0])


@pytest.fixture(scope="module")
def generator():
    module = Generator(16, 1, width=8, num_classes=3, z_dim=16)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 16)), jnp.zeros((1,), jnp.int32))
    return module, variables["params"]


def test_generate_equals_the_generator(generator):
    module, params = generator
    seeds, labels = jnp.arange(5, dtype=jnp.uint32), jnp.array([0, 1, 2, 0, 1])
    expected = module.apply({"params": params}, latents(seeds, 16), labels)
    images = generate(module, params, seeds, labels)
    assert images.shape == (5, 16, 16, 1)
    np.testing.assert_allclose(images, expected, atol=1e-6)


def test_an_image_is_the_same_in_any_batch(generator):
    module, params = generator
    count = BLOCK + 9
    seeds, labels = np.arange(count, dtype=np.uint32), np.arange(count, dtype=np.int32) % 3
    all_images = np.asarray(generate(module, params, seeds, labels))
    for index in (0, BLOCK - 1, BLOCK, count - 1):
        alone = generate(module, params, seeds[index : index + 1], labels[index : index + 1])
        np.testing.assert_array_equal(alone[0], all_images[index])
    order = np.random.default_rng(0).permutation(count)
    shuffled = generate(module, params, seeds[order], labels[order])
    np.testing.assert_array_equal(shuffled, all_images[order])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_are_quantised_as_on_the_host(dtype):
    random = np.random.default_rng(0)
    top = 65535 if dtype == np.uint16 else 255
    midpoints = (np.arange(-2, top + 2) * 2 + 1 - top).astype(np.float32) / np.float32(top)
    beside = [np.nextafter(midpoints, end, dtype=np.float32) for end in (-9, 9)]
    tiny = np.float32([0, 1e-30, 1e-12, -1e-12, 1e-7, -1e-7, -1, 1, -3, 3])
    x = np.concatenate([midpoints, *beside, tiny, random.uniform(-1.1, 1.1, 100_000)])
    x = x.astype(np.float32)
    x = x[(x == 0) | (np.abs(x) > 1e-37)]  # XLA takes subnormal numbers for 0
    stored = jax.jit(quantise, static_argnums=1)(x, dtype)
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, from_unit(x, dtype))
