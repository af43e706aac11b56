"""Which form of a convolution's three maps to take on CPU, where XLA's own are slow.

In float32 it is the compiled library's (`nn.native`), which comes near the processor's limit. The
other forms serve where there is none, and other types. XLA's CPU backend falls back to loops 5 to
100 times slower where a kernel is larger than its image, fills dilated images up with zeros, and
takes the filter gradient of a pointwise convolution for a convolution whose kernel has the image's
size (docs/performance.md has the numbers).

The functions take the geometry of `nn.conv` and give a form, a function of the map's operands (T's
may have images to add to as a third) that returns the same values, or None where XLA's own is as
good, as it is for volumes of other types than float32.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from nn.native import build, volume
from nn.native import conv as native

if TYPE_CHECKING:
    from nn.conv import Geometry

Form = Callable[..., jax.Array]

# Fewer channels than this are a product's result sooner than a convolution's.
_FEW = 8


def forward(geometry: "Geometry", dtype: jnp.dtype) -> Form | None:
    """How to compute F where XLA's convolution is slower."""
    if len(geometry.size) != 2:
        return _of_volumes(volume.forward, geometry, dtype)
    if build.computes(dtype):
        return functools.partial(native.forward, geometry)
    return functools.partial(_padded, geometry) if _outgrows(geometry) else None


def input_gradient(geometry: "Geometry", dtype: jnp.dtype, channels: int) -> Form | None:
    """How to compute T, for so many channels of x, where XLA's convolution is slower."""
    if len(geometry.size) != 2:
        return _of_volumes(volume.input_gradient, geometry, dtype)
    if geometry.strides != (1, 1) and channels < _FEW:
        return functools.partial(_spread, geometry)
    if build.computes(dtype):
        return functools.partial(native.input_gradient, geometry)
    # With strides of one it is a convolution like F.
    dilated = geometry.strides != (1, 1)
    return functools.partial(_phases, geometry) if dilated or _outgrows(geometry) else None


def filter_gradient(geometry: "Geometry", dtype: jnp.dtype) -> Form | None:
    """How to compute W where XLA's convolution is slower."""
    if len(geometry.size) != 2:
        return _of_volumes(volume.filter_gradient, geometry, dtype)
    if build.computes(dtype):
        return functools.partial(native.filter_gradient, geometry)
    one_tap = geometry.kernel == (1, 1) and geometry.strides == (1, 1)
    return _one_product if one_tap and geometry.out_size == geometry.size else None


def rectified(geometry: "Geometry", dtype: jnp.dtype, slope: float, w: jax.Array) -> Form | None:
    """How to compute F of x and w, with a bias and a leaky ReLU, in one pass if there is a way."""
    if _winograd_or_none(geometry, dtype, geometry.out_size, w):
        return None
    return functools.partial(native.rectified, geometry, slope)


def gated(geometry: "Geometry", dtype: jnp.dtype, slope: float, w: jax.Array) -> Form | None:
    """How to compute T of y and w, times a leaky ReLU's derivative, in one pass if there is one."""
    spread = geometry.strides != (1, 1) and w.shape[2] < _FEW
    if spread or _winograd_or_none(geometry, dtype, geometry.size, w):
        return None
    return functools.partial(native.gated, geometry, slope)


def _winograd_or_none(
    geometry: "Geometry", dtype: jnp.dtype, size: tuple[int, ...], w: jax.Array
) -> bool:
    """Whether the library's direct form, which can do more in its pass, is not what serves."""
    if len(size) != 2 or not build.computes(dtype):
        return True
    return native.winograd(geometry, native.IMAGE, size, w.shape[2:])


def _of_volumes(form: Form, geometry: "Geometry", dtype: jnp.dtype) -> Form | None:
    computes = len(geometry.size) == 3 and build.computes(dtype)
    return functools.partial(form, geometry) if computes else None


def _outgrows(geometry: "Geometry") -> bool:
    """Whether the kernel is larger than the image without its padding."""
    return any(k > n for k, n in zip(geometry.kernel, geometry.size, strict=True))


def _padded(geometry: "Geometry", x: jax.Array, w: jax.Array) -> jax.Array:
    """F of an image that is padded beforehand, so that the kernel is not larger than it."""
    return _convolve(x, w, geometry.pads, geometry.strides)


def _one_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """W of a pointwise convolution as one product of matrices; the smaller one is transposed."""
    left, right = (a.reshape(-1, a.shape[3]) for a in (x, y))
    inputs_fewer = left.shape[1] <= right.shape[1]
    few, many = (left, right) if inputs_fewer else (right, left)
    # Without the barrier the product reads its left side down the columns, three times slower.
    w = _product(lax.optimization_barrier(few.T), many)
    w = w if inputs_fewer else w.T
    return w.astype(x.dtype)[None, None]


def _phases(geometry: "Geometry", y: jax.Array, w: jax.Array, *onto: jax.Array) -> jax.Array:
    """T as one convolution of y for every phase of x: its rows and columns modulo the strides."""
    (sh, sw), (height, width) = geometry.strides, geometry.size
    # A kernel shorter than the stride has no tap for the last phases but zeros.
    short = [max(s - k, 0) for s, k in zip(geometry.strides, geometry.kernel, strict=True)]
    w = jnp.pad(w, ((0, short[0]), (0, short[1]), (0, 0), (0, 0)))

    def phase(down: int, across: int) -> jax.Array:
        (rows, above), (columns, beside) = _phase(geometry, 0, down), _phase(geometry, 1, across)
        taps = jnp.flip(w[rows, columns], (0, 1)).swapaxes(2, 3)
        return _convolve(y, taps, (above, beside), (1, 1))

    x = jnp.stack([jnp.stack([phase(i, j) for j in range(sw)], 3) for i in range(sh)], 2)
    x = x.reshape(len(y), x.shape[1] * sh, x.shape[3] * sw, w.shape[2])
    return sum(onto, start=x[:, :height, :width])


def _phase(geometry: "Geometry", axis: int, phase: int) -> tuple[slice, tuple[int, int]]:
    """Along an axis: the taps of w that phase p of x meets, and the padding of y for them.

    With stride s and p + low = s c + r, x[s q + p] is the sum over t of y[q + c - t] w[r + s t].
    """
    stride, (low, _) = geometry.strides[axis], geometry.pads[axis]
    ahead, first = divmod(phase + low, stride)
    taps = max(-(-(geometry.kernel[axis] - first) // stride), 1)
    count = -(-geometry.size[axis] // stride)
    return slice(first, None, stride), (taps - 1 - ahead, count + ahead - geometry.out_size[axis])


def _spread(geometry: "Geometry", y: jax.Array, w: jax.Array, *onto: jax.Array) -> jax.Array:
    """T as one product, in which every y spreads a patch of x, and a sum of shifted patches."""
    (kh, kw), (sh, sw), (th, tw) = geometry.kernel, geometry.strides, geometry.taps
    w = jnp.pad(w, ((0, th * sh - kh), (0, tw * sw - kw), (0, 0), (0, 0)))
    patches = _product(y, w.transpose(3, 0, 1, 2).reshape(w.shape[3], -1))
    patches = patches.reshape(*y.shape[:3], th, sh, tw, sw, w.shape[2])
    cells = sum(
        jnp.pad(patches[:, :, :, i, :, j], _shift(i, th, j, tw))
        for i in range(th)
        for j in range(tw)
    )
    x = cells.transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(len(y), x.shape[1] * sh, x.shape[3] * sw, w.shape[2]).astype(y.dtype)
    sizes = zip(geometry.size, geometry.pads, x.shape[1:3], strict=True)
    x = _pad(x, [(-low, size + low - got) for size, (low, _), got in sizes])
    return sum(onto, start=x)


def _shift(i: int, th: int, j: int, tw: int) -> list[tuple[int, int]]:
    """Padding of cells [B, OH, OW, ...] of tap (i, j) to the grid of all taps."""
    return [(0, 0), (i, th - 1 - i), (j, tw - 1 - j), *[(0, 0)] * 3]


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Their matrix product, in float32 where they are bfloat16: what follows adds it up."""
    wide = jnp.promote_types(left.dtype, jnp.float32)
    return jnp.matmul(left, right, preferred_element_type=wide)


def _pad(x: jax.Array, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """Pads rows and columns of x [B, H, W, C] with zeros; a negative number cuts."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *[(*p, 0) for p in pads], (0, 0, 0)])


def _convolve(
    x: jax.Array, w: jax.Array, pads: Sequence[tuple[int, int]], strides: tuple[int, int]
) -> jax.Array:
    """XLA's convolution of an image that is padded before it."""
    # Without the barrier XLA takes the padding into the convolution again.
    x = lax.optimization_barrier(_pad(x, pads))
    return lax.conv_general_dilated(
        x, w, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
