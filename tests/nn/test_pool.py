"""Max pooling against flax, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nn.pool import max_pool


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 4)])
@pytest.mark.parametrize(("window", "stride"), [(3, 2), (2, 2), (3, 1)])
def test_it_is_the_maximum_of_each_window_and_so_is_its_gradient(size, window, stride):
    # Every value is another one, so that no two share a maximum.
    x = jax.random.permutation(jax.random.key(0), jnp.arange(2.0 * size[0] * size[1] * 3))
    x = x.reshape(2, *size, 3) - 50

    def theirs(x):
        return nn.max_pool(x, (window, window), (stride, stride), "SAME")

    np.testing.assert_array_equal(max_pool(x, window, stride), theirs(x))
    weights = jnp.cos(theirs(x))
    mine, expected = (
        jax.grad(lambda x, pool=pool: (weights * pool(x)).sum())(x)
        for pool in (lambda x: max_pool(x, window, stride), theirs)
    )
    np.testing.assert_allclose(mine, expected, rtol=1e-6)
