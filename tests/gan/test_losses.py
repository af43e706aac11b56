"""Losses against float64 NumPy, and the direction in which they push."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.losses import LOSSES

REAL = np.array([-30.0, -1.5, -0.2, 0.0, 0.7, 1.0, 2.5, 40.0])
FAKE = np.array([-35.0, -1.0, -0.7, 0.1, 0.4, 1.3, 3.0, 25.0])


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


def relu(x):
    return np.maximum(x, 0)


EXPECTED = {
    "non_saturating": (
        -np.mean(log_sigmoid(REAL)) - np.mean(log_sigmoid(-FAKE)),
        -np.mean(log_sigmoid(FAKE)),
    ),
    "hinge": (np.mean(relu(1 - REAL)) + np.mean(relu(1 + FAKE)), -np.mean(FAKE)),
    "wasserstein": (np.mean(FAKE) - np.mean(REAL), -np.mean(FAKE)),
}


def test_every_loss_has_its_test():
    assert set(LOSSES) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_values(name):
    real, fake = jnp.asarray(REAL, jnp.float32), jnp.asarray(FAKE, jnp.float32)
    discriminator, generator = EXPECTED[name]
    np.testing.assert_allclose(LOSSES[name].discriminator(real, fake), discriminator, rtol=1e-6)
    np.testing.assert_allclose(LOSSES[name].generator(fake), generator, rtol=1e-6)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_two_sides_pull_apart(name):
    logits = jnp.array([-0.5, 0.0, 0.5])
    real, fake = jax.grad(LOSSES[name].discriminator, (0, 1))(logits, logits)
    assert jnp.all(real < 0)
    assert jnp.all(fake > 0)
    assert jnp.all(jax.grad(LOSSES[name].generator)(logits) < 0)


@pytest.mark.parametrize("name", EXPECTED)
def test_extreme_logits_give_finite_values_and_gradients(name):
    logits = jnp.array([-1e4, 1e4])
    loss = LOSSES[name]
    value, gradients = jax.value_and_grad(loss.discriminator, (0, 1))(logits, logits)
    assert jnp.isfinite(value)
    assert jnp.all(jnp.isfinite(jnp.stack(gradients)))
    assert jnp.all(jnp.isfinite(jax.grad(loss.generator)(logits)))
