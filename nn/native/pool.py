"""Max pooling and its derivative by the compiled library: float32, on CPU.

They take the operands of `nn.pool` and return the same values. `pool.cc` says how.
"""

import jax
import jax.numpy as jnp
import numpy as np


def forward(window: int, stride: int, x: jax.Array) -> jax.Array:
    """The maxima y [B, ceil(H / stride), ceil(W / stride), C] of x [B, H, W, C]."""
    batch, height, width, channels = x.shape
    shape = (batch, -(-height // stride), -(-width // stride), channels)
    return _call("vrn_pool_forward", window, stride, shape, x)


def backward(window: int, stride: int, x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient of x, where g is that of y."""
    return _call("vrn_pool_backward", window, stride, x.shape, x, y, g)


def _call(
    target: str, window: int, stride: int, shape: tuple[int, ...], *given: jax.Array
) -> jax.Array:
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.ffi.ffi_call(target, result, vmap_method="sequential")(
        *given, window=np.int64(window), stride=np.int64(stride)
    )
