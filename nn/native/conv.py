"""The three maps of a convolution by the compiled library: float32, on CPU.

They take the geometry and operands of `nn.conv` and return the same values. `conv.cc` says how, and
`winograd.cc` for 3x3 kernels and many channels, where it multiplies less.
"""

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nn.native import build

if TYPE_CHECKING:
    from nn.conv import Geometry

TARGETS = ("vrn_conv_gather", "vrn_conv_scatter", "vrn_winograd_image", "vrn_winograd_kernel")
# Kernels of more numbers are too large for a sum per thread: threads share the kernel out instead.
_SMALL = 2**17
_FEW = 8  # channels that do not fill a vector
# From how many channels, and which height and width of a result (of W: of y) on Winograd's form is
# the faster one: below, it has more additions to pay than multiplications to save.
IMAGE, _KERNEL = (32, 4), (16, 8)
# Numbers of a Winograd patch, and channels of a kernel's part that one thread sums up.
_PATCH, _PART = 16, 64


def forward(geometry: "Geometry", x: jax.Array, w: jax.Array, *onto: jax.Array) -> jax.Array:
    """F: x [B, H, W, I], w [KH, KW, I, O] -> y [B, OH, OW, O], added to images `onto` like y.

    The sum takes the place of these in memory where nothing reads them again.
    """
    return _gather(geometry, x, w, (*geometry.out_size, w.shape[3]), *onto, transposed=False)


def input_gradient(geometry: "Geometry", y: jax.Array, w: jax.Array, *onto: jax.Array) -> jax.Array:
    """T: y [B, OH, OW, O], w [KH, KW, I, O] -> x [B, H, W, I], added to images `onto` like x."""
    return _gather(geometry, y, w, (*geometry.size, w.shape[2]), *onto, transposed=True)


def rectified(
    geometry: "Geometry", slope: float, x: jax.Array, w: jax.Array, bias: jax.Array
) -> jax.Array:
    """F, the bias [O], and a leaky ReLU: x [B, H, W, I], w [KH, KW, I, O] -> [B, OH, OW, O]."""
    shape = (*geometry.out_size, w.shape[3])
    return _gather(geometry, x, w, shape, bias, transposed=False, third="bias", slope=slope)


def gated(
    geometry: "Geometry", slope: float, y: jax.Array, w: jax.Array, gate: jax.Array
) -> jax.Array:
    """T, times the derivative of a leaky ReLU whose result `gate` [B, H, W, I] is."""
    shape = (*geometry.size, w.shape[2])
    return _gather(geometry, y, w, shape, gate, transposed=True, third="gate", slope=slope)


def filter_gradient(geometry: "Geometry", x: jax.Array, y: jax.Array) -> jax.Array:
    """W: x [B, H, W, I], y [B, OH, OW, O] -> w [KH, KW, I, O]."""
    shape = (*geometry.kernel, x.shape[3], y.shape[3])
    if set(geometry.strides) == {1} and shape[3] < _FEW <= shape[2]:
        # Few channels of y fill no vector: x and y change places, and the kernel's taps turn round.
        turned = dataclasses.replace(geometry, size=geometry.out_size, pads=geometry.reverse_pads)
        return jnp.flip(filter_gradient(turned, y, x), (0, 1)).swapaxes(2, 3)
    if winograd(geometry, _KERNEL, geometry.out_size, shape[2:]):
        chunks = -(-shape[2] // _PART) * -(-shape[3] // _PART)
        parts = -(-4 * _threads() // chunks)
        scratch = parts * _PATCH * shape[2] * shape[3]
        return _call(TARGETS[3], x, y, shape=shape, scratch=scratch, lows=_lows(geometry))
    size = int(np.prod(shape))
    parts = min(4 * _threads(), y.shape[0] * y.shape[1]) if size <= _SMALL else 1
    scratch = parts * size if parts > 1 else 0
    return _call(TARGETS[1], x, y, shape=shape, scratch=scratch, **_window(geometry))


def _gather(
    geometry: "Geometry",
    source: jax.Array,
    w: jax.Array,
    shape: tuple[int, ...],
    *more: jax.Array,
    transposed: bool,
    third: str = "onto",
    slope: float = 1.0,
) -> jax.Array:
    """F or T; `third` says what `more` is, as `conv.cc` has it."""
    call = functools.partial(
        _call, shape=(len(source), *shape), onto=third == "onto", transposed=transposed
    )
    channels = (source.shape[3], shape[2])
    if winograd(geometry, IMAGE, shape[:2], channels) and third == "onto":
        scratch = _PATCH * channels[0] * channels[1]
        return call(TARGETS[2], source, w, *more, scratch=scratch, lows=_lows(geometry))
    packed = w.shape[0] * w.shape[1] * channels[0] * (-(-channels[1] // _lanes()) * _lanes())
    return call(
        TARGETS[0],
        source,
        w,
        *more,
        scratch=packed,
        **_window(geometry),
        third=third if more else "",
        slope=np.float32(slope),
    )


def winograd(
    geometry: "Geometry", least: tuple[int, int], size: tuple[int, ...], channels: tuple[int, ...]
) -> bool:
    """Whether there is a Winograd form and it is the faster one."""
    return (
        geometry.kernel == (3, 3)
        and geometry.strides == (1, 1)
        and min(channels) >= least[0]
        and min(size) >= least[1]
        and all(c % _lanes() == 0 for c in channels)
    )


def _lows(geometry: "Geometry") -> np.ndarray:
    return np.array([low for low, _ in geometry.pads], np.int64)


def _window(geometry: "Geometry") -> dict[str, np.ndarray]:
    return {"strides": np.array(geometry.strides, np.int64), "lows": _lows(geometry)}


def _call(
    target: str,
    *operands: jax.Array,
    shape: tuple[int, ...],
    scratch: int,
    onto: bool = False,
    **attributes: Any,
) -> jax.Array:
    """Calls the library with `scratch` numbers of memory beside the result.

    With `onto` a third operand, if there is one, has the result's place.
    """
    results = [jax.ShapeDtypeStruct(size, jnp.float32) for size in (shape, (scratch,))]
    places = {2: 0} if onto and len(operands) > 2 else None
    call = jax.ffi.ffi_call(target, results, vmap_method="sequential", input_output_aliases=places)
    return call(*operands, **attributes)[0]


def _lanes() -> int:
    """Floats in a vector of the processor."""
    return build.load().vrn_conv_lanes()


@functools.cache
def _threads() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
