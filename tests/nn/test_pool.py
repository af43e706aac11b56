"""Max pooling against flax, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nn.native import build
from nn.pool import max_pool


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 4)])
@pytest.mark.parametrize(("window", "stride"), [(3, 2), (2, 2), (3, 1), (2, 4), (5, 3)])
def test_it_is_the_maximum_of_each_window_and_so_is_its_gradient(size, window, stride, dtype):
    def theirs(x):
        return nn.max_pool(x, (window, window), (stride, stride), "SAME")

    def gradient(pool, x):
        return jax.grad(lambda x: (jnp.cos(theirs(x)) * pool(x)).sum())(x)

    with jax.enable_x64(dtype == jnp.float64):
        # Every value is another one, so that no two share a maximum.
        x = jax.random.permutation(jax.random.key(0), jnp.arange(2.0 * size[0] * size[1] * 3))
        x = (x.reshape(2, *size, 3) - 50).astype(dtype)

        def ours(x):
            return max_pool(x, window, stride)

        np.testing.assert_array_equal(ours(x), theirs(x))
        np.testing.assert_allclose(gradient(ours, x), gradient(theirs, x), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("size", "channels"), [((7, 9), 3), ((6, 6), 40), ((1, 2), 16)])
def test_equal_maxima_share_the_gradient(size, channels, dtype):
    # After a ReLU many numbers of a window are zero.
    rng = np.random.default_rng(0)
    x = np.maximum(rng.integers(-2, 3, (2, *size, channels)), 0)
    out = [-(-n // 2) for n in size]
    g = rng.normal(size=(2, *out, channels))
    total = [max((o - 1) * 2 + 3 - n, 0) // 2 for o, n in zip(out, size, strict=True)]
    expected = np.zeros(x.shape)
    for b, i, j, c in np.ndindex(*g.shape):
        rows = slice(max(0, 2 * i - total[0]), 2 * i - total[0] + 3)
        columns = slice(max(0, 2 * j - total[1]), 2 * j - total[1] + 3)
        window = x[b, rows, columns, c]
        most = window == window.max()
        expected[b, rows, columns, c] += most * g[b, i, j, c] / most.sum()
    with jax.enable_x64(dtype == jnp.float64):
        given = jnp.asarray(x, dtype), jnp.asarray(g, dtype)
        back = jax.jit(lambda x, g: jax.vjp(lambda x: max_pool(x, 3, 2), x)[1](g)[0])
        native = "vrn_pool_backward" in back.lower(*given).as_text()
        assert native == build.computes(dtype)
        np.testing.assert_allclose(back(*given), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_second_derivative_is_that_of_the_chosen_numbers(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x = jax.random.permutation(jax.random.key(0), jnp.arange(2.0 * 7 * 9 * 3, dtype=dtype))
        x = x.reshape(2, 7, 9, 3) / 50

        def penalty(pool, x):
            gradient = jax.grad(lambda x: jnp.sum(jnp.sin(pool(x))))(x)
            return jnp.sum(jnp.sqrt(1 + gradient**2))

        def chosen(x):
            """By indices, which have derivatives of every order."""
            places = jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)
            order = jnp.argsort(x.ravel())
            rank = jnp.zeros(x.size, x.dtype).at[order].set(places.ravel()).reshape(x.shape)
            ranks = nn.max_pool(rank, (3, 3), (2, 2), "SAME").astype(int)
            return x.ravel()[order[ranks]]

        mine = jax.jit(jax.grad(lambda x: penalty(lambda x: max_pool(x, 3, 2), x)))(x)
        expected = jax.jit(jax.grad(lambda x: penalty(chosen, x)))(x)
        np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_what_is_no_number_stays_so():
    x = jnp.zeros((2, 6, 6, 17)).at[0, 2, 2].set(jnp.nan)
    y = jax.jit(lambda x: max_pool(x, 3, 2))(x)
    assert np.isnan(y[0, 1, 1]).all()
    assert np.isfinite(y[1]).all()
    expected = nn.max_pool(x, (3, 3), (2, 2), "SAME")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
