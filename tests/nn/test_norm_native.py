"""Group normalisation by the compiled library against the formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nn import norm
from nn.native import build

pytestmark = pytest.mark.skipif(not build.computes(jnp.float32), reason="nn/native is not compiled")
# Channels that fill vectors and that do not, pixels that fill rows of vectors and that do not,
# images of one pixel, and of more than one piece.
SHAPES = [
    ((3, 4, 6, 16), 4),
    ((2, 5, 7, 3), 1),
    ((2, 5, 7, 3), 3),
    ((2, 9, 9, 24), 6),
    ((2, 32, 32, 64), 16),
    ((3, 7, 5, 6), 3),
    ((2, 1, 1, 8), 2),
    ((1, 3, 3, 1), 1),
    ((2, 4, 4, 1040), 26),
    ((2, 64, 64, 16), 4),
]
FOLLOWING = ["nothing", "relu", "residual"]


def operands(shape, seed=0):
    rng = np.random.default_rng(seed)
    image = lambda mean: rng.normal(mean, 2, shape)  # noqa: E731
    channels = lambda: rng.normal(size=(shape[0], shape[3]))  # noqa: E731
    return image(3), channels(), channels(), image(0), image(0)


def formula(groups, following, x, scale, shift, residual):
    """Wu and He 2018, with PyTorch's order of channels within groups."""
    parts = x.reshape(*x.shape[:3], groups, -1)
    mean = parts.mean((1, 2, 4), keepdims=True)
    variance = parts.var((1, 2, 4), keepdims=True)
    y = ((parts - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape)
    y = y * scale[:, None, None] + shift[:, None, None]
    y = y + residual if following == "residual" else y
    return y if following == "nothing" else jnp.maximum(y, 0)


def ours(groups, following, x, scale, shift, residual):
    added = residual if following == "residual" else None
    relu = following != "nothing"
    return norm.group_norm(x, groups, scale, shift, relu=relu, residual=added)


def pulled(function, groups, following, x, scale, shift, residual, g):
    run = lambda *given: function(groups, following, *given)  # noqa: E731
    y, back = jax.vjp(run, x, scale, shift, residual)
    return y, *back(g)


def close(found, expected, limit):
    for one, other in zip(found, expected, strict=True):
        apart = np.linalg.norm(np.asarray(one, np.float64) - other)
        assert apart <= limit * np.linalg.norm(other) + 1e-12


@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_result_and_gradients_equal_those_of_the_formula(shape, groups, following):
    given = operands(shape)
    single = [jnp.asarray(one, jnp.float32) for one in given]
    run = jax.jit(pulled, static_argnums=(0, 1, 2))
    assert "vrn_norm_backward" in run.lower(ours, groups, following, *single).as_text()
    found = run(ours, groups, following, *single)
    with jax.enable_x64(True):
        double = [jnp.asarray(one, jnp.float32).astype(jnp.float64) for one in given]
        expected = run(formula, groups, following, *double)
        close(found, expected, 3e-6)


@pytest.mark.parametrize("following", FOLLOWING)
def test_second_order_equals_that_of_the_formula(following):
    given = operands((2, 4, 6, 12))

    def penalty(function, *given):
        def loss(*inner):
            return jnp.sum(jnp.sin(function(3, following, *inner)))

        gradients = jax.grad(loss, argnums=(0, 1, 2, 3))(*given)
        return sum(jnp.sum(jnp.sqrt(1 + one**2)) for one in gradients)

    run = jax.jit(jax.grad(penalty, argnums=(1, 2, 3, 4)), static_argnums=0)
    found = run(ours, *(jnp.asarray(one, jnp.float32) for one in given[:4]))
    with jax.enable_x64(True):
        double = (jnp.asarray(one, jnp.float32).astype(jnp.float64) for one in given[:4])
        expected = run(formula, *double)
        close(found, expected, 2e-5)


def test_a_large_mean_does_not_spoil_the_variance():
    x = np.random.default_rng(0).normal(1000, 1, (2, 40, 40, 8)).astype(np.float32)
    one, zero = jnp.ones((1, 8)), jnp.zeros((1, 8))
    found = jax.jit(norm.group_norm, static_argnums=1)(x, 2, one, zero)
    parts = x.astype(np.float64).reshape(2, 1600, 2, 4)
    apart = parts - parts.mean((1, 3), keepdims=True)
    expected = (apart / np.sqrt((apart**2).mean((1, 3), keepdims=True) + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_square_of_the_mean_may_overflow():
    x = np.random.default_rng(0).normal(1e20, 1e18, (1, 9, 9, 8)).astype(np.float32)
    found = norm.group_norm(jnp.asarray(x), 1, jnp.ones((1, 8)), jnp.zeros((1, 8)))
    x = x.astype(np.float64)
    np.testing.assert_allclose(found, (x - x.mean()) / x.std(), atol=1e-4)


def test_an_image_gives_the_same_bits_in_every_batch():
    given = [jnp.asarray(one, jnp.float32) for one in operands((13, 9, 7, 40))]
    run = jax.jit(pulled, static_argnums=(0, 1, 2))
    together = run(ours, 10, "residual", *given)
    alone = run(ours, 10, "residual", *(one[4:5] for one in given))
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one[4:5], other)


@pytest.mark.parametrize("following", FOLLOWING)
def test_what_is_no_number_stays_so(following):
    x, scale, shift, residual, g = (jnp.asarray(a, jnp.float32) for a in operands((2, 5, 7, 3)))
    run = jax.jit(pulled, static_argnums=(0, 1, 2))
    y, d_x, *_ = run(ours, 1, following, x.at[0, 2, 3, 1].set(jnp.nan), scale, shift, residual, g)
    assert np.isnan(y[0]).all()
    assert np.isnan(d_x[0]).all()
    assert np.isfinite(y[1]).all()
    assert np.isfinite(d_x[1]).all()


def test_no_images_give_no_gradient():
    x, scale, shift, residual, g = (a[:0] for a in map(jnp.asarray, operands((2, 5, 7, 3))))
    found = pulled(
        ours, 1, "residual", *(a.astype(jnp.float32) for a in (x, scale, shift, residual, g))
    )
    assert [one.shape for one in found] == [x.shape, x.shape, scale.shape, shift.shape, x.shape]


def test_a_residual_needs_the_relu():
    with pytest.raises(ValueError, match="relu=True"):
        norm.group_norm(jnp.ones((1, 2, 2, 4)), 1, jnp.ones((1, 4)), jnp.ones((1, 4)), residual=1.0)
