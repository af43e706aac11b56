"""Gradient penalties on critics whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.models.dcgan import Discriminator
from gan.penalties import gradient_penalty, r1

SHAPE = (5, 4, 6, 2)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)


def test_a_linear_critic_has_the_penalty_of_its_weights(images):
    real, fake = images
    weights = np.random.default_rng(1).standard_normal(SHAPE[1:])
    critic = lambda x: jnp.einsum("bhwc,hwc->b", x, weights)  # noqa: E731
    square = np.sum(weights**2)
    np.testing.assert_allclose(r1(critic, jnp.asarray(real)), square / 2, rtol=1e-5)
    got = gradient_penalty(
        critic, jnp.asarray(real), jnp.asarray(fake), jnp.full((5, 1, 1, 1), 0.3)
    )
    np.testing.assert_allclose(got, (np.sqrt(square) - 1) ** 2, rtol=1e-5)


def test_a_quadratic_critic_has_each_images_own_penalty(images):
    real, fake = images
    critic = lambda x: 0.05 * jnp.sum(x**2, (1, 2, 3))  # noqa: E731  (gradient 0.1 x)
    np.testing.assert_allclose(
        r1(critic, jnp.asarray(real)), np.mean(np.sum((0.1 * real) ** 2, (1, 2, 3))) / 2, rtol=1e-5
    )
    mix = np.random.default_rng(2).uniform(size=(5, 1, 1, 1))
    lengths = np.sqrt(np.sum((0.1 * (real + mix * (fake - real))) ** 2, (1, 2, 3)))
    got = gradient_penalty(critic, jnp.asarray(real), jnp.asarray(fake), jnp.asarray(mix))
    np.testing.assert_allclose(got, np.mean((lengths - 1) ** 2), rtol=1e-5)


def test_a_constant_critic_has_finite_gradients(images):
    real, fake = (jnp.asarray(a) for a in images)

    def loss(scale):
        critic = lambda x: scale * jnp.sum(x, (1, 2, 3))  # noqa: E731
        return gradient_penalty(critic, real, fake, jnp.full((5, 1, 1, 1), 0.5)) + r1(critic, real)

    value, gradient = jax.value_and_grad(loss)(0.0)
    np.testing.assert_allclose(value, 1, atol=1e-5)
    assert jnp.isfinite(gradient)


@pytest.mark.parametrize("penalty", ["r1", "gp"])
def test_the_penalty_of_a_discriminator_has_the_gradient_of_finite_differences(penalty):
    with jax.enable_x64(True):
        module = Discriminator(16, 1, width=2, num_classes=2)
        rng = np.random.default_rng(4)
        real, fake = (jnp.asarray(rng.standard_normal((3, 16, 16, 1))) for _ in range(2))
        labels = jnp.array([0, -1, 1])
        params = module.init(jax.random.key(0), real, labels)["params"]
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64) * 5, params)
        direction = jax.tree.map(
            lambda leaf: jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), params
        )

        @jax.jit
        def value(amount):
            moved = jax.tree.map(lambda leaf, d: leaf + amount * d, params, direction)
            critic = lambda x: module.apply({"params": moved}, x, labels)  # noqa: E731
            if penalty == "r1":
                return r1(critic, real)
            return gradient_penalty(
                critic, real, fake, jnp.array([0.2, 0.5, 0.9])[:, None, None, None]
            )

        h = 1e-6
        expected = (value(h) - value(-h)) / (2 * h)
        np.testing.assert_allclose(jax.grad(value)(0.0), expected, rtol=1e-5)
