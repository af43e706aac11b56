"""Spectral normalisation against NumPy's singular values, its derivatives, and its upkeep."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nn import spectral
from nn.conv import Conv


class Scaled(nn.Module):
    """A kernel of the given shape, spectrally normalised."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self):
        kernel = self.param("kernel", nn.initializers.normal(0.3), self.shape)
        return spectral.normalised(self, kernel)


def largest(kernel):
    return np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]))[1][0]


@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (4, 4, 1, 6), (9, 1), (3, 24)])
def test_the_largest_singular_value_is_divided_out_from_the_start(shape):
    module = Scaled(shape)
    variables = module.init(jax.random.key(0))
    kernel = variables["params"]["kernel"]
    np.testing.assert_allclose(module.apply(variables), kernel / largest(kernel), rtol=2e-2)


def test_the_stored_vector_converges_to_the_singular_vector():
    module = Scaled((3, 3, 5, 7))
    params = module.init(jax.random.key(1))["params"]
    params["kernel_spectral"] = jax.random.normal(jax.random.key(2), (7,))
    before = module.apply({"params": params})
    for _ in range(300):
        params = spectral.advance(params)
    expected = params["kernel"] / largest(params["kernel"])
    np.testing.assert_allclose(module.apply({"params": params}), expected, rtol=1e-5)
    assert not np.allclose(before, expected, rtol=1e-2)
    _, _, right = np.linalg.svd(np.asarray(params["kernel"]).reshape(-1, 7))
    assert abs(right[0] @ params["kernel_spectral"]) == pytest.approx(1, abs=1e-5)


def test_the_gradient_is_that_of_the_singular_value_and_spares_the_vector():
    # At convergence sigma is W's spectral norm, whose derivative LAPACK's decomposition gives too.
    module = Scaled((6, 4))
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.float64, module.init(jax.random.key(3))["params"])
        for _ in range(2000):
            params = spectral.advance(params)
        weights = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)))

        def ours(params):
            return jnp.sum(jnp.sin(module.apply({"params": params})) * weights)

        def exact(kernel):
            return jnp.sum(jnp.sin(kernel / jnp.linalg.norm(kernel, 2)) * weights)

        gradient = jax.grad(ours)(params)
        np.testing.assert_allclose(
            gradient["kernel"], jax.grad(exact)(params["kernel"]), atol=1e-10
        )
    np.testing.assert_array_equal(gradient["kernel_spectral"], 0)


def test_advance_finds_every_vector_and_touches_nothing_else():
    params = {
        "block": {"Conv_0": Scaled((3, 3, 2, 4)).init(jax.random.key(0))["params"]},
        "plain": {"kernel": jnp.ones((2, 2))},
    }
    params["block"]["Conv_0"]["kernel_spectral"] = jnp.ones(4)
    advanced = spectral.advance(params)
    assert advanced["plain"]["kernel"] is params["plain"]["kernel"]
    conv = advanced["block"]["Conv_0"]
    assert conv["kernel"] is params["block"]["Conv_0"]["kernel"]
    matrix = np.asarray(conv["kernel"]).reshape(-1, 4)
    expected = matrix.T @ (matrix @ np.ones(4))
    np.testing.assert_allclose(
        conv["kernel_spectral"], expected / np.linalg.norm(expected), rtol=1e-5
    )


def test_an_optimiser_leaves_the_vector_alone():
    layer, x = Conv(4, spectral=True), jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    params = layer.init(jax.random.key(1), x)["params"]
    tx = optax.adam(0.1)
    gradient = jax.grad(lambda p: jnp.sum(layer.apply({"params": p}, x) ** 2))(params)
    change, _ = tx.update(gradient, tx.init(params), params)
    assert np.any(change["kernel"] != 0)
    np.testing.assert_array_equal(change["kernel_spectral"], 0)


def test_a_spectral_convolution_is_the_plain_one_with_the_normalised_kernel():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    params = Conv(4, spectral=True).init(jax.random.key(1), x)["params"]
    for _ in range(200):
        params = spectral.advance(params)
    kernel = params["kernel"] / largest(params["kernel"])
    np.testing.assert_allclose(
        Conv(4, spectral=True).apply({"params": params}, x),
        Conv(4).apply({"params": {"kernel": kernel, "bias": params["bias"]}}, x),
        atol=1e-5,
    )
