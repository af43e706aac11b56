"""The three maps of a convolution of volumes, as sums of those of their slices, by the library.

A kernel of volumes is one kernel of images for every tap along the depth. The slices that such a
tap meets, of all volumes, are one batch of images, and its results go on top of those of the taps
before. Operands and values are those of `nn.conv`, with volumes [B, D, H, W, C].
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from nn.native import conv as native

if TYPE_CHECKING:
    from nn.conv import Geometry


def forward(geometry: "Geometry", x: jax.Array, w: jax.Array) -> jax.Array:
    """F: x [B, D, H, W, I], w [KD, KH, KW, I, O] -> y [B, OD, OH, OW, O]."""
    deep, flat = geometry.part(slice(1)), geometry.part(slice(1, None))
    (depth,), (stride,), ((low, _),) = deep.out_size, deep.strides, deep.pads
    y = jnp.zeros((len(x) * depth, *flat.out_size, w.shape[-1]), x.dtype)
    for tap, kernel in enumerate(w):
        y = native.forward(flat, _slices(x, tap - low, stride, depth), kernel, y)
    return _volumes(y, len(x))


def input_gradient(geometry: "Geometry", y: jax.Array, w: jax.Array, *onto: jax.Array) -> jax.Array:
    """T: y [B, OD, OH, OW, O], w [KD, KH, KW, I, O] -> x [B, D, H, W, I], added to `onto`.

    Slices of x whose numbers are alike modulo the stride meet the same taps.
    """
    deep, flat = geometry.part(slice(1)), geometry.part(slice(1, None))
    (depth,), (stride,), ((low, _),) = deep.size, deep.strides, deep.pads
    count = -(-depth // stride)
    phases = []
    for phase in range(stride):
        x = jnp.zeros((len(y) * count, *flat.size, w.shape[-2]), y.dtype)
        for tap in range((phase + low) % stride, len(w), stride):
            met = _slices(y, (phase + low - tap) // stride, 1, count)
            x = native.input_gradient(flat, met, w[tap], x)
        phases.append(_volumes(x, len(y)))
    x = jnp.stack(phases, 2).reshape(len(y), count * stride, *flat.size, w.shape[-2])
    return sum(onto, start=x[:, :depth])


def filter_gradient(geometry: "Geometry", x: jax.Array, y: jax.Array) -> jax.Array:
    """W: x [B, D, H, W, I], y [B, OD, OH, OW, O] -> w [KD, KH, KW, I, O]."""
    deep, flat = geometry.part(slice(1)), geometry.part(slice(1, None))
    (depth,), (taps,), (stride,), ((low, _),) = (
        deep.out_size, deep.kernel, deep.strides, deep.pads,
    )  # fmt: skip
    images = y.reshape(-1, *y.shape[2:])
    each = (
        native.filter_gradient(flat, _slices(x, tap - low, stride, depth), images)
        for tap in range(taps)
    )
    return jnp.stack(list(each))


def _slices(x: jax.Array, first: int, stride: int, count: int) -> jax.Array:
    """Slices first, first + stride and so on of volumes, as images [B * count, H, W, C].

    Those before the first slice of a volume and after its last one are zeros.
    """
    depth, end = x.shape[1], first + (count - 1) * stride + 1
    if end <= 0 or first >= depth:
        return jnp.zeros((len(x) * count, *x.shape[2:]), x.dtype)
    edges = [(0, 0, 0), (-first, end - depth, 0), *[(0, 0, 0)] * (x.ndim - 2)]
    chosen = lax.pad(x, jnp.zeros((), x.dtype), edges)[:, ::stride]
    return chosen.reshape(-1, *x.shape[2:])


def _volumes(images: jax.Array, count: int) -> jax.Array:
    """Images [count * D, H, W, C] as volumes [count, D, H, W, C]."""
    return images.reshape(count, len(images) // count, *images.shape[1:])
