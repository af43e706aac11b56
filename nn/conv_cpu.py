"""The three maps of a convolution as matrix products over cache-sized pieces of a batch, for CPU.

XLA's CPU backend multiplies matrices at nearly the machine's peak, but reaches a fifth to a half of
it in convolutions with few channels and in filter gradients (docs/performance.md has the numbers).
So the images are cut into cells of one stride, the kernel into taps of one cell, and every tap
becomes a product of matrices. What a product needs or leaves, several times the size of the images,
stays in the cache because a loop takes few images at a time: a matrix product in a rolled loop is
as fast as outside it, which a convolution is not.

The functions take the geometry and operands of `nn.conv` and return the same values.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from nn.conv import Geometry

# Bytes that the operands or results of one product may take, so that they stay in a level-3 cache.
# A third and three times as much are slower.
_PIECE_BYTES = 8 * 2**20


def suits_forward(geometry: "Geometry", inputs: int, outputs: int) -> bool:
    """Whether `forward` is faster than XLA's convolution, by measurement."""
    if geometry.strides != (1, 1):
        return False
    if geometry.taps == (1, 1):
        return inputs >= outputs
    # XLA's own is some ten times slower than it need be where the results are 2x2.
    if max(geometry.out_size) == 2:
        return True
    return min(inputs, outputs) >= 32 and max(inputs, outputs) <= 64


def suits_filter_gradient(geometry: "Geometry", inputs: int, outputs: int) -> bool:
    """Whether `filter_gradient` is faster than XLA's convolution, by measurement."""
    small = geometry.strides != (1, 1) and min(geometry.out_size) < 8
    return inputs >= 8 and max(inputs, outputs) >= 32 and not small


def forward(geometry: "Geometry", x: jax.Array, w: jax.Array) -> jax.Array:
    """F as one product with all taps side by side and a sum of shifted results."""
    kernel = _cut_kernel(geometry, w)
    (th, tw), (oh, ow), outputs = geometry.taps, geometry.out_size, w.shape[3]
    beside = kernel.transpose(2, 0, 1, 3).reshape(-1, th * tw * outputs)

    def piece(x: jax.Array) -> jax.Array:
        cells = _cut(geometry, x)
        products = _product(cells, beside).reshape(*cells.shape[:3], th, tw, outputs)
        y = sum(products[:, i : i + oh, j : j + ow, i, j] for i in range(th) for j in range(tw))
        return y.astype(x.dtype)

    gh, gw = geometry.grid
    return _map(piece, (x,), x.dtype.itemsize * gh * gw * th * tw * outputs)


def input_gradient(geometry: "Geometry", y: jax.Array, w: jax.Array) -> jax.Array:
    """T as one product, in which every y spreads a patch of cells, and a sum of shifted patches."""
    kernel = _cut_kernel(geometry, w)
    (th, tw), width = geometry.taps, kernel.shape[2]
    spread = kernel.transpose(3, 0, 1, 2).reshape(w.shape[3], -1)

    def piece(y: jax.Array) -> jax.Array:
        patches = _product(y, spread).reshape(*y.shape[:3], th, tw, width)
        cells = sum(
            jnp.pad(patches[:, :, :, i, j], ((0, 0), (i, th - 1 - i), (j, tw - 1 - j), (0, 0)))
            for i in range(th)
            for j in range(tw)
        )
        return _join(geometry, cells).astype(y.dtype)

    return _map(piece, (y,), y.dtype.itemsize * math.prod(geometry.out_size) * th * tw * width)


def filter_gradient(geometry: "Geometry", x: jax.Array, y: jax.Array) -> jax.Array:
    """W as a sum over pieces of one product: x shifted along rows times y shifted along columns.

    Shifting each operand along one axis makes th + tw copies in place of th * tw. The smaller one
    gets its channels first: a matrix product is fast when it runs along the rows of its left side.
    """
    (th, tw), (gh, _), (_, ow) = geometry.taps, geometry.grid, geometry.out_size
    across, down = tw * math.prod(geometry.strides) * x.shape[3], th * y.shape[3]
    columns_first = across > down

    def piece(x: jax.Array, y: jax.Array) -> jax.Array:
        rows = _cut(geometry, x)
        rows = [rows[:, :, j : j + ow] for j in range(tw)]
        columns = [jnp.pad(y, ((0, 0), (i, th - 1 - i), (0, 0), (0, 0))) for i in range(th)]
        left, right = (columns, rows) if columns_first else (rows, columns)
        left = jnp.concatenate([part.transpose(3, 0, 1, 2) for part in left])
        right = jnp.concatenate(right, -1)
        return _product(left.reshape(len(left), -1), right.reshape(-1, right.shape[3]))

    sums = _add(piece, (x, y), x.dtype.itemsize * gh * ow * (across + down))
    sums = (sums.T if columns_first else sums).astype(x.dtype).reshape(tw, -1, th, y.shape[3])
    # The barrier has the transposition done once, not again in every use by the optimiser.
    return lax.optimization_barrier(_join_kernel(geometry, sums.transpose(2, 0, 1, 3)))


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    """Their matrix product, in float32 where they are bfloat16: what follows adds it up."""
    wide = jnp.promote_types(left.dtype, jnp.float32)
    return jnp.matmul(left, right, preferred_element_type=wide)


def _pieces(arrays: tuple[jax.Array, ...], image_bytes: int) -> tuple[jax.Array, ...]:
    """Cuts batches [B, ...] into [N, B / N, ...] with as few pieces as `_PIECE_BYTES` allows.

    A batch that the partitioner divides over devices stays whole: in a loop over it the devices
    would wait for each other in every turn. Inside `shard_map` the batch is one device's own.
    """
    batch = len(arrays[0])
    counts = [n for n in range(1, batch + 1) if batch % n == 0]
    fitting = [n for n in counts if batch // n * image_bytes <= _PIECE_BYTES]
    own = jax.device_count() == 1 or jax.sharding.get_abstract_mesh().manual_axes
    count = min(fitting, default=batch) if own else 1
    return tuple(a.reshape(count, -1, *a.shape[1:]) for a in arrays)


def _map(fn: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], image_bytes: int):
    """Applies `fn` to one piece of the images after the other."""
    pieces = _pieces(arrays, image_bytes)
    if len(pieces[0]) == 1:
        return fn(*arrays)
    done = lax.map(lambda piece: fn(*piece), pieces)
    return done.reshape(-1, *done.shape[2:])


def _add(fn: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], image_bytes: int):
    """Adds up what `fn` returns for every piece of the images."""
    first, *_ = pieces = _pieces(arrays, image_bytes)
    if len(first) == 1:
        return fn(*arrays)
    shape = jax.eval_shape(fn, *(p[0] for p in pieces))
    total = jnp.zeros(shape.shape, shape.dtype)
    return lax.scan(lambda total, piece: (total + fn(*piece), None), total, pieces)[0]


def _frame(geometry: "Geometry") -> list[tuple[int, int, int]]:
    """Padding, possibly negative, that makes x a whole number of cells under every kernel."""
    axes = zip(geometry.size, geometry.pads, geometry.grid, geometry.strides, strict=True)
    inner = [(low, cells * stride - n - low, 0) for n, (low, _), cells, stride in axes]
    return [(0, 0, 0), *inner, (0, 0, 0)]


def _cut(geometry: "Geometry", x: jax.Array) -> jax.Array:
    """Cuts x [B, H, W, I] into cells [B, GH, GW, SH * SW * I]."""
    (gh, gw), (sh, sw) = geometry.grid, geometry.strides
    x = lax.pad(x, jnp.zeros((), x.dtype), _frame(geometry))
    x = x.reshape(-1, gh, sh, gw, sw, x.shape[3]).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, gh, gw, sh * sw * x.shape[5])


def _join(geometry: "Geometry", cells: jax.Array) -> jax.Array:
    """The adjoint of `_cut`: drops the padding, and zeros stand where no kernel reaches."""
    (gh, gw), (sh, sw) = geometry.grid, geometry.strides
    inputs = cells.shape[3] // (sh * sw)
    x = cells.reshape(-1, gh, gw, sh, sw, inputs).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, gh * sh, gw * sw, inputs)
    frame = [(-low, -high, 0) for low, high, _ in _frame(geometry)]
    return lax.pad(x, jnp.zeros((), x.dtype), frame)


def _cut_kernel(geometry: "Geometry", w: jax.Array) -> jax.Array:
    """Cuts w [KH, KW, I, O] into taps [TH, TW, SH * SW * I, O]."""
    (kh, kw), (sh, sw), (th, tw) = geometry.kernel, geometry.strides, geometry.taps
    w = jnp.pad(w, ((0, th * sh - kh), (0, tw * sw - kw), (0, 0), (0, 0)))
    w = w.reshape(th, sh, tw, sw, *w.shape[2:]).transpose(0, 2, 1, 3, 4, 5)
    return w.reshape(th, tw, -1, w.shape[5])


def _join_kernel(geometry: "Geometry", taps: jax.Array) -> jax.Array:
    """The adjoint of `_cut_kernel`."""
    (kh, kw), (sh, sw), (th, tw) = geometry.kernel, geometry.strides, geometry.taps
    w = taps.reshape(th, tw, sh, sw, -1, taps.shape[3]).transpose(0, 2, 1, 3, 4, 5)
    return w.reshape(th * sh, tw * sw, *w.shape[4:])[:kh, :kw]
