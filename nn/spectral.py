"""Spectral normalisation: weights divided by an estimate of their largest singular value.

Miyato et al. 2018, algorithm 1. A kernel of any rank counts as the matrix of its last axis, which
holds the outputs, by all others. The vector that the power iteration carries from one update of the
weights to the next lies beside its kernel among the parameters, as 'kernel_spectral'. Nothing
differentiates it, so that its gradient is zero and optimisers leave it alone; `advance` renews it
once per update. Within an update the normalised weights are a plain function of the parameters:
every use of a layer (real, generated and mixed images, first and second derivatives) sees the same.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_SUFFIX = "_spectral"
_TINY = 1e-12
_WARM_UP = 30


def normalised(module: nn.Module, kernel: jax.Array, name: str = "kernel") -> jax.Array:
    """A kernel over its largest singular value, estimated by one power iteration.

    Args:
        module: the layer, inside its compact method; gets the vector as a parameter.
        kernel: [..., O], a parameter of `module`.
        name: of that parameter.

    Returns:
        The kernel divided by sigma. Sigma's own derivative is kept (equation 12); its two singular
        vectors are constants.
    """
    vector = module.param(name + _SUFFIX, lambda key: _first_vector(key, kernel))
    matrix = _matrix(kernel)
    left, right = _iterate(lax.stop_gradient(matrix), lax.stop_gradient(vector))
    sigma = left @ matrix @ right
    return kernel / sigma


def advance(params: Any) -> Any:
    """Takes one power iteration of every spectral vector, and leaves all else as it is.

    Args:
        params: nested dictionaries; a vector 'NAME_spectral' belongs to the parameter 'NAME'.

    Returns:
        The same structure; the very same arrays where nothing is normalised.
    """
    if not isinstance(params, dict):
        return params
    advanced = {name: advance(value) for name, value in params.items()}
    for name in params:
        if name.endswith(_SUFFIX):
            kernel = params[name.removesuffix(_SUFFIX)]
            advanced[name] = _iterate(_matrix(kernel), params[name])[1]
    return advanced


def _matrix(kernel: jax.Array) -> jax.Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _iterate(matrix: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One power iteration on [N, O] from the right singular vector [O]: left [N] and right [O]."""
    left = _unit(matrix @ right)
    return left, _unit(left @ matrix)


def _unit(vector: jax.Array) -> jax.Array:
    return vector / (jnp.linalg.norm(vector) + _TINY)


def _first_vector(key: jax.Array, kernel: jax.Array) -> jax.Array:
    """A random start, iterated until sigma is a good estimate from the first step on."""
    matrix = _matrix(kernel)
    start = jax.random.normal(key, kernel.shape[-1:])
    return lax.fori_loop(0, _WARM_UP, lambda _, vector: _iterate(matrix, vector)[1], start)
