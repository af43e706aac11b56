"""Pooling."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def max_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    """The maximum of every window of [B, H, W, C], padded as 'SAME' with minus infinity.

    On CPU it is the maximum of shifted copies: the derivative of XLA's window reduction is some
    ten times slower there. Where several are the maximum the copies share the gradient.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), C].
    """

    def copies(x: jax.Array) -> jax.Array:
        sizes = x.shape[1:3]
        pads = lax.padtype_to_pads(sizes, (window, window), (stride, stride), "SAME")
        low = jnp.array(-jnp.inf, x.dtype)
        x = lax.pad(x, low, [(0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)])
        down, across = ((-(-size // stride) - 1) * stride + 1 for size in sizes)
        return functools.reduce(
            jnp.maximum,
            (
                x[:, i : i + down : stride, j : j + across : stride]
                for i in range(window)
                for j in range(window)
            ),
        )

    def windows(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (window, window), (stride, stride), "SAME")

    return lax.platform_dependent(x, cpu=copies, default=windows)
