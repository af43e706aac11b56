"""Pooling."""

import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from nn.native import build
from nn.native import pool as native


def max_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    """The maximum of every window of [B, H, W, C], padded as 'SAME' with minus infinity.

    On CPU it is the compiled library's (`nn.native`) or the maximum of shifted copies: the
    derivative of XLA's window reduction is some ten times slower there. Where several are the
    maximum they share the gradient.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), C].
    """

    def windows(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (window, window), (stride, stride), "SAME")

    return lax.platform_dependent(
        x, cpu=functools.partial(_on_cpu, window, stride), default=windows
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _on_cpu(window: int, stride: int, x: jax.Array) -> jax.Array:
    if build.computes(x.dtype):
        return native.forward(window, stride, x)
    cells = _Cells(window, stride, x)
    return functools.reduce(jnp.maximum, (copy for _, copy in cells.copies()))


def _forward(window: int, stride: int, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    y = _on_cpu(window, stride, x)
    return y, (x, y)


def _backward(window: int, stride: int, saved: tuple[jax.Array, ...], g: jax.Array):
    return (_gradient(window, stride, *saved, g),)


_on_cpu.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gradient(window: int, stride: int, x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
    """The gradient of x where that of y is g: linear in g, and constant in x and y."""
    if build.computes(x.dtype):
        return native.backward(window, stride, x, y, g)
    return _shared(window, stride, x, y, g)


def _gradient_forward(window: int, stride: int, x: jax.Array, y: jax.Array, g: jax.Array):
    return _gradient(window, stride, x, y, g), (x, y)


def _gradient_backward(window: int, stride: int, saved: tuple[jax.Array, ...], back: jax.Array):
    x, y = saved
    transposed = jax.linear_transpose(functools.partial(_shared, window, stride, x, y), y)
    return jnp.zeros_like(x), jnp.zeros_like(y), *transposed(back)


_gradient.defvjp(_gradient_forward, _gradient_backward)


def _shared(window: int, stride: int, x: jax.Array, y: jax.Array, g: jax.Array) -> jax.Array:
    cells = _Cells(window, stride, x)
    share = g / sum((copy == y).astype(g.dtype) for _, copy in cells.copies())
    nothing = jnp.zeros_like(cells.phase(0, 0))  # what strides past the window never read
    parts = {(i, j): nothing for i in range(stride) for j in range(stride)}
    for (down, across), copy in cells.copies():
        part = jnp.where(copy == y, share, 0)
        parts[down % stride, across % stride] += cells.back(part, down, across)
    rows = [jnp.stack([parts[i, j] for j in range(stride)], 3) for i in range(stride)]
    return cells.join(jnp.stack(rows, 2))


class _Cells:
    """The images cut into cells of one stride, of which every window covers a few."""

    def __init__(self, window: int, stride: int, x: jax.Array):
        self._window, self._stride = window, stride
        self._size = x.shape[1:3]
        self._out = [-(-size // stride) for size in self._size]
        self._taps = -(-window // stride)
        pads = lax.padtype_to_pads(self._size, (window,) * 2, (stride,) * 2, "SAME")
        self._low = [low for low, _ in pads]
        total = [(out + self._taps - 1) * stride for out in self._out]
        sizes = zip(total, self._size, self._low, strict=True)
        frame = [(low, whole - size - low, 0) for whole, size, low in sizes]
        x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(0, 0, 0), *frame, (0, 0, 0)])
        shape = (len(x), total[0] // stride, stride, total[1] // stride, stride, x.shape[3])
        self._cells = x.reshape(shape)

    def copies(self) -> Iterator[tuple[tuple[int, int], jax.Array]]:
        """For every place (down, across) in the window what stands there: [B, OH, OW, C]."""
        s, (oh, ow) = self._stride, self._out
        for i in range(self._window):
            for j in range(self._window):
                phase = self.phase(i % s, j % s)
                yield (i, j), phase[:, i // s : i // s + oh, j // s : j // s + ow]

    def phase(self, i: int, j: int) -> jax.Array:
        """The numbers at place (i, j) of every cell: [B, GH, GW, C]."""
        return self._cells[:, :, i, :, j]

    def back(self, part: jax.Array, i: int, j: int) -> jax.Array:
        """Puts a copy of place (i, j) back among the cells."""
        down, across, last = i // self._stride, j // self._stride, self._taps - 1
        pads = ((0, 0), (down, last - down), (across, last - across), (0, 0))
        return jnp.pad(part, pads)

    def join(self, cells: jax.Array) -> jax.Array:
        """The images from cells [B, GH, S, GW, S, C]."""
        (height, width), (top, left) = self._size, self._low
        batch, gh, s, gw, _, channels = cells.shape
        x = cells.reshape(batch, gh * s, gw * s, channels)
        return x[:, top : top + height, left : left + width]
