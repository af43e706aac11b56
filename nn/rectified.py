"""Convolutions one after another, each followed by a bias and a leaky ReLU.

A rectifier computes next to nothing, but as an operation of its own it reads and writes every
image. Here it is applied where the convolution before it has the number in a register, and its
derivative where the input gradient of the convolution behind it has: of images, F and T of
`nn.conv` become

    R(x, w, b) = r(F(x, w) + b)                   r the leaky ReLU
    G(g, w, y) = T(g, w) r'                       r' by the sign of y = r(...)
"""

import functools
import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax

from nn import conv, conv_cpu
from nn.activation import gate, leaky_relu
from nn.conv import Geometry
from nn.precision import Dtype, cast


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rectified(
    geometry: Geometry, slope: float, x: jax.Array, w: jax.Array, b: jax.Array
) -> jax.Array:
    """R: x [B, H, W, I], w [KH, KW, I, O], b [O] -> y [B, OH, OW, O]."""

    def plain(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        return leaky_relu(conv.forward(geometry, x, w) + b, slope)

    return conv.by_platform(conv_cpu.rectified(geometry, x.dtype, slope, w), plain, x, w, b)


def _rectified_forward(geometry, slope, x, w, b):
    y = _rectified(geometry, slope, x, w, b)
    return y, (x, w, y)


def _rectified_backward(geometry, slope, saved, g):
    x, w, y = saved
    g = gate(y, g, slope)
    return conv.input_gradient(geometry, g, w), *_of_parameters(geometry, x, g)


def _of_parameters(geometry: Geometry, x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gradients of kernel and bias, g being that of what the rectifier takes."""
    return conv.filter_gradient(geometry, x, g), g.sum(range(g.ndim - 1))


_rectified.defvjp(_rectified_forward, _rectified_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gated(geometry: Geometry, slope: float, g: jax.Array, w: jax.Array, y: jax.Array) -> jax.Array:
    """G: g [B, OH, OW, O], w [KH, KW, I, O], y [B, H, W, I] -> [B, H, W, I]."""

    def plain(g: jax.Array, w: jax.Array, y: jax.Array) -> jax.Array:
        return gate(y, conv.input_gradient(geometry, g, w), slope)

    return conv.by_platform(conv_cpu.gated(geometry, g.dtype, slope, w), plain, g, w, y)


def _gated_backward(geometry, slope, saved, c):
    g, w, y = saved
    c = gate(y, c, slope)
    return conv.forward(geometry, c, w), conv.filter_gradient(geometry, c, g), None


_gated.defvjp(
    lambda geometry, slope, g, w, y: (_gated(geometry, slope, g, w, y), (g, w, y)),
    _gated_backward,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _stack(
    geometries: tuple[Geometry, ...],
    slope: float,
    x: jax.Array,
    kernels: tuple[jax.Array, ...],
    biases: tuple[jax.Array, ...],
) -> jax.Array:
    return _images(geometries, slope, x, kernels, biases)[-1]


def _images(geometries, slope, x, kernels, biases) -> list[jax.Array]:
    """X and the result of every layer."""
    layers = zip(geometries, kernels, biases, strict=True)
    apply = lambda x, layer: _rectified(layer[0], slope, x, *layer[1:])  # noqa: E731
    return list(itertools.accumulate(layers, apply, initial=x))


def _stack_forward(geometries, slope, x, kernels, biases):
    images = _images(geometries, slope, x, kernels, biases)
    return images[-1], (images, kernels)


def _stack_backward(geometries, slope, saved, g):
    images, kernels = saved
    g, found = gate(images[-1], g, slope), []
    for geometry, w, x in zip(geometries[:0:-1], kernels[:0:-1], images[-2:0:-1], strict=True):
        found.append(_of_parameters(geometry, x, g))
        # The sign of x has no derivative; zeros in its place would go back through all layers.
        g = _gated(geometry, slope, g, w, jax.lax.stop_gradient(x))
    found.append(_of_parameters(geometries[0], images[0], g))
    return conv.input_gradient(geometries[0], g, kernels[0]), *zip(*found[::-1], strict=True)


_stack.defvjp(_stack_forward, _stack_backward)


def rectified_convs(
    x: jax.Array,
    features: Sequence[int],
    *,
    kernel: int,
    stride: int,
    slope: float,
    kernel_init: nn.initializers.Initializer,
    dtype: Dtype = None,
) -> jax.Array:
    """Layers of `nn.conv.Conv` with zero padding and a bias, a leaky ReLU after each of them.

    To be called in a compact module, which takes their parameters, named as those of `Conv`. The
    derivative is that of the layers one by one, to any order.

    Args:
      x: images [B, H, W, C], or volumes [B, D, H, W, C].
      features: channels of each layer's result, of one layer at least.
      kernel: its height and width, and depth.
      stride: how many times smaller every layer's result is.
      slope: of the leaky ReLU below 0, from 0 on.
      kernel_init: draws the kernels.
      dtype: of the products and images, see `nn.precision`.

    Returns:
      The last layer's images [B, OH, OW, O], or volumes.
    """
    layers, shape = [], x.shape
    for index, channels in enumerate(features):
        layer = RectifiedConv(channels, kernel, stride, kernel_init, dtype, name=f"Conv_{index}")
        layers.append(layer(shape))
        shape = (shape[0], *layers[-1][0].out_size, channels)
    geometries, kernels, biases = zip(*layers, strict=True)
    (x,) = cast(dtype, x)
    return _stack(geometries, slope, x, kernels, biases)


class RectifiedConv(nn.Module):
    """What one layer is: its geometry, and its parameters in the type of the products."""

    features: int
    kernel: int
    stride: int
    kernel_init: nn.initializers.Initializer
    dtype: Dtype

    @nn.compact
    def __call__(self, shape: tuple[int, ...]) -> tuple[Geometry, jax.Array, jax.Array]:
        """For images of a shape [B, *S, C]: geometry, kernel [*K, C, features], bias [features]."""
        size = (*(self.kernel,) * (len(shape) - 2), shape[-1], self.features)
        w = self.param("kernel", self.kernel_init, size)
        b = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        w, b = cast(self.dtype, w, b)
        return *conv.met(conv.geometry_of(shape, w, self.stride, "SAME"), w), b
