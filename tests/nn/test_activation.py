"""The rectifier against the formula, its derivatives, and what it keeps for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nn.activation import leaky_relu

X = np.array([-2.0, -1e-3, -0.0, 0.0, 1e-3, 3.0])
SLOPES = (0.0, 0.01, 0.2)


@pytest.mark.parametrize("slope", SLOPES)
def test_value_and_derivative_are_those_of_the_definition(slope):
    with jax.enable_x64(True):
        y, pull = jax.vjp(lambda x: leaky_relu(x, slope), jnp.asarray(X))
        np.testing.assert_array_equal(y, np.where(X > 0, X, slope * X))
        np.testing.assert_array_equal(pull(jnp.full(6, 3.0))[0], np.where(X > 0, 3, 3 * slope))


@pytest.mark.parametrize("slope", SLOPES)
def test_second_derivatives_are_those_of_jax(slope):
    def second(function):
        def scalar(x):
            return jnp.sum(jnp.sin(function(jnp.square(x) - 1) * x))

        def first(x):
            return jnp.sum(jnp.cos(jax.grad(scalar)(x)))

        return jax.grad(first)(jnp.asarray(X + 0.5))

    with jax.enable_x64(True):
        ours = second(lambda x: leaky_relu(x, slope))
        theirs = second(lambda x: jax.nn.leaky_relu(x, slope) if slope else jax.nn.relu(x))
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize("slope", SLOPES)
def test_what_is_no_number_stays_so(slope):
    y = np.asarray(leaky_relu(jnp.array([np.nan, -np.inf, np.inf]), slope))
    np.testing.assert_array_equal(y, [np.nan, -np.inf if slope else 0, np.inf])


def test_the_result_alone_is_kept_for_the_derivative():
    x = jnp.arange(-3.0, 3.0)
    y, pull = jax.vjp(lambda x: leaky_relu(x, 0.2), x)
    (kept,) = jax.tree.leaves(pull)
    np.testing.assert_array_equal(kept, y)
