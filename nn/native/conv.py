"""The three maps of a convolution by the compiled library: float32, on CPU.

They take the geometry and operands of `nn.conv` and return the same values. `conv.cc` says how.
"""

import functools
import os
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from nn.native import build

if TYPE_CHECKING:
    from nn.conv import Geometry

TARGETS = ("vrn_conv_gather", "vrn_conv_scatter")
# Kernels of more numbers are too large for a sum per thread: threads share the kernel out instead.
_SMALL = 2**17


def forward(geometry: "Geometry", x: jax.Array, w: jax.Array) -> jax.Array:
    """F: x [B, H, W, I], w [KH, KW, I, O] -> y [B, OH, OW, O]."""
    return _gather(geometry, x, w, (*geometry.out_size, w.shape[3]), transposed=False)


def input_gradient(geometry: "Geometry", y: jax.Array, w: jax.Array) -> jax.Array:
    """T: y [B, OH, OW, O], w [KH, KW, I, O] -> x [B, H, W, I]."""
    return _gather(geometry, y, w, (*geometry.size, w.shape[2]), transposed=True)


def filter_gradient(geometry: "Geometry", x: jax.Array, y: jax.Array) -> jax.Array:
    """W: x [B, H, W, I], y [B, OH, OW, O] -> w [KH, KW, I, O]."""
    shape = (*geometry.kernel, x.shape[3], y.shape[3])
    size = int(np.prod(shape))
    parts = min(4 * _threads(), y.shape[0] * y.shape[1]) if size <= _SMALL else 1
    return _call(TARGETS[1], geometry, x, y, shape, parts * size if parts > 1 else 0)


def _gather(
    geometry: "Geometry", source: jax.Array, w: jax.Array, shape: tuple[int, ...], transposed: bool
) -> jax.Array:
    lanes = build.load().vrn_conv_lanes()
    packed = w.shape[0] * w.shape[1] * source.shape[3] * (-(-shape[-1] // lanes) * lanes)
    shape = (len(source), *shape)
    return _call(TARGETS[0], geometry, source, w, shape, packed, transposed=transposed)


def _call(
    target: str,
    geometry: "Geometry",
    left: jax.Array,
    right: jax.Array,
    shape: tuple[int, ...],
    scratch: int,
    **attributes: bool,
) -> jax.Array:
    """Calls the library with `scratch` numbers of memory beside the result."""
    results = [jax.ShapeDtypeStruct(size, jnp.float32) for size in (shape, (scratch,))]
    return jax.ffi.ffi_call(target, results, vmap_method="sequential")(
        left,
        right,
        strides=np.array(geometry.strides, np.int64),
        lows=np.array([low for low, _ in geometry.pads], np.int64),
        **attributes,
    )[0]


@functools.cache
def _threads() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
