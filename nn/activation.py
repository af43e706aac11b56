"""Rectifiers whose derivative is read from their result."""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def leaky_relu(x: jax.Array, slope: float = 0.0) -> jax.Array:
    """The ReLU or, with a slope, the leaky one of Maas et al. (2013): `slope` times x below 0.

    The derivative needs no more than the result's sign, which is that of x. So x need not be kept,
    and the result takes its place in memory. At 0 the derivative is `slope`.

    Args:
        x: of any shape.
        slope: from 0 on.

    Returns:
        Of x's shape and type. Reverse-mode differentiable to any order.
    """
    # No product with a slope of zero, which would make a NaN of -infinity.
    return jnp.where(x > 0, x, slope * x) if slope else jnp.maximum(x, 0)


def _forward(x: jax.Array, slope: float) -> tuple[jax.Array, jax.Array]:
    y = leaky_relu(x, slope)
    return y, y


def gate(y: jax.Array, g: jax.Array, slope: float) -> jax.Array:
    """Multiplies g by the derivative of `leaky_relu` where its result is y, of the same shape."""
    return jnp.where(y > 0, g, slope * g)


def _backward(slope: float, y: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    return (gate(y, g, slope),)


leaky_relu.defvjp(_forward, _backward)
