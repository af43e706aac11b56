"""Convolution and transposed convolution whose gradients of every order are fast.

A strided convolution, its input gradient (the transposed convolution) and its filter gradient are
three bilinear maps, and the derivatives of each are the other two:

    F(x, w) -> y      dF = T(g, w), W(x, g)
    T(y, w) -> x      dT = F(g, w), W(g, y)
    W(x, y) -> w      dW = T(y, g), F(x, g)

T can put its result on top of other images, for a layer beside which there is a shortcut.

Saying so with `jax.custom_vjp` keeps second-order terms (gradient penalties) inside the same three
maps. JAX's own transposition rules instead build dilated convolutions that XLA's CPU backend runs
an order of magnitude slower, with the same result.

Images are [B, H, W, C] and kernels [KH, KW, I, O] throughout; volumes are [B, D, H, W, C] and their
kernels [KD, KH, KW, I, O].
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from nn import conv_cpu
from nn.precision import Dtype, cast
from nn.spectral import normalised

Padding = Literal["SAME", "VALID"] | int | Sequence[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The static part of a convolution, shared by its three maps.

    Attributes:
        size: (H, W) of x, or (D, H, W).
        kernel: (KH, KW) of w, or (KD, KH, KW).
        strides: window strides, one for each axis.
        pads: (low, high) padding of x with zeros for each axis; a negative entry cuts.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def out_size(self) -> tuple[int, ...]:
        """(OH, OW) of y, or (OD, OH, OW)."""
        axes = zip(self.size, self.kernel, self.strides, self.pads, strict=True)
        return tuple(max((n + sum(pads) - k) // s + 1, 0) for n, k, s, pads in axes)

    @property
    def taps(self) -> tuple[int, ...]:
        """How many cells the kernel covers along each axis."""
        return tuple(-(-k // s) for k, s in zip(self.kernel, self.strides, strict=True))

    @property
    def reverse_pads(self) -> tuple[tuple[int, int], ...]:
        """Padding, possibly negative, of the dilated y when a flipped kernel leads back to x."""
        axes = zip(*dataclasses.astuple(self), self.out_size, strict=True)
        return tuple((k - 1 - low, n + low - 1 - (out - 1) * s) for n, k, s, (low, _), out in axes)

    def part(self, axes: slice) -> "Geometry":
        """The same along some of the axes."""
        return Geometry(*(values[axes] for values in dataclasses.astuple(self)))

    def layout(self, *names: str) -> tuple[str, ...]:
        """Dimension numbers of images as they are for as many axes as there are."""
        axes = "DHW"[-len(self.size) :]
        return tuple(name.replace("HW", axes) for name in names)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def forward(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """F: x [B, H, W, I], w [KH, KW, I, O] -> y [B, OH, OW, O]."""
    plain = functools.partial(_forward_plain, geometry)
    return by_platform(conv_cpu.forward(geometry, x.dtype), plain, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def input_gradient(
    geometry: Geometry, y: jax.Array, w: jax.Array, onto: tuple[jax.Array, ...] = ()
) -> jax.Array:
    """T: y [B, OH, OW, O], w [KH, KW, I, O] -> x [B, H, W, I], plus images like x if given."""
    plain = functools.partial(_input_gradient_plain, geometry)
    cpu = conv_cpu.input_gradient(geometry, y.dtype, w.shape[2])
    return by_platform(cpu, plain, y, w, *onto)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _forked(geometry: Geometry, x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """F(x, w) and x, the gradient of which goes on top of what comes back for this x."""
    return forward(geometry, x, w), x


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def filter_gradient(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """W: x [B, H, W, I], y [B, OH, OW, O] -> w [KH, KW, I, O]."""
    plain = functools.partial(_filter_gradient_plain, geometry)
    return by_platform(conv_cpu.filter_gradient(geometry, x.dtype), plain, x, y)


def by_platform(
    cpu: conv_cpu.Form | None, default: conv_cpu.Form, *operands: jax.Array
) -> jax.Array:
    """The map in the form that suits the platform which the program is compiled for."""
    if cpu is None:
        return default(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=default)


def _forward_plain(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    layout = geometry.layout("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, w, geometry.strides, geometry.pads, dimension_numbers=layout)


def _input_gradient_plain(
    geometry: Geometry, y: jax.Array, w: jax.Array, *onto: jax.Array
) -> jax.Array:
    """The convolution of the dilated y with the flipped kernel."""
    x = lax.conv_general_dilated(
        y,
        jnp.flip(w, tuple(range(len(geometry.size)))),
        (1,) * len(geometry.size),
        geometry.reverse_pads,
        lhs_dilation=geometry.strides,
        dimension_numbers=geometry.layout("NHWC", "HWOI", "NHWC"),
    )
    return sum(onto, start=x)


def _filter_gradient_plain(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The convolution of x with the dilated y as kernel, channels and batch changing places."""
    axes = zip(*dataclasses.astuple(geometry), geometry.out_size, strict=True)
    pads = [(low, k + (out - 1) * s - n - low) for n, k, s, (low, _), out in axes]
    return lax.conv_general_dilated(
        x,
        y,
        (1,) * len(geometry.size),
        pads,
        rhs_dilation=geometry.strides,
        dimension_numbers=geometry.layout("CHWN", "IHWO", "HWNC"),
    )


forward.defvjp(
    lambda geometry, x, w: (forward(geometry, x, w), (x, w)),
    lambda geometry, saved, g: (
        input_gradient(geometry, g, saved[1]),
        filter_gradient(geometry, saved[0], g),
    ),
)
_forked.defvjp(
    lambda geometry, x, w: (_forked(geometry, x, w), (x, w)),
    lambda geometry, saved, g: (
        input_gradient(geometry, g[0], saved[1], (g[1],)),
        filter_gradient(geometry, saved[0], g[0]),
    ),
)
input_gradient.defvjp(
    lambda geometry, y, w, onto=(): (
        input_gradient(geometry, y, w, onto),
        (y, w, (None,) * len(onto)),
    ),
    lambda geometry, saved, g: (
        forward(geometry, g, saved[1]),
        filter_gradient(geometry, g, saved[0]),
        tuple(g for _ in saved[2]),
    ),
)
filter_gradient.defvjp(
    lambda geometry, x, y: (filter_gradient(geometry, x, y), (x, y)),
    lambda geometry, saved, g: (
        input_gradient(geometry, saved[1], g),
        forward(geometry, saved[0], g),
    ),
)


def _pads(padding: Padding, size, kernel, strides) -> tuple[tuple[int, int], ...]:
    """Padding given by name, by one number for every side, or by explicit (low, high) pairs."""
    if padding == "VALID":
        return ((0, 0),) * len(size)
    if padding == "SAME":
        totals = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, k, s in zip(size, kernel, strides, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, int):
        return ((padding, padding),) * len(size)
    if isinstance(padding, str):
        raise ValueError(f"padding {padding!r} is unknown: give 'SAME', 'VALID', a number or pairs")
    return tuple((int(lo), int(hi)) for lo, hi in padding)


def _strides(strides: int | tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    return (strides,) * len(size) if isinstance(strides, int) else strides


def geometry_of(
    shape: tuple[int, ...], w: jax.Array, strides: int | tuple[int, ...], padding: Padding
) -> Geometry:
    """That of a convolution of images of a shape; ValueError if w takes other axes or channels."""
    size, kernel = shape[1:-1], w.shape[:-2]
    if len(size) != len(kernel) or shape[-1] != w.shape[-2]:
        raise ValueError(
            f"a kernel {w.shape} takes {w.shape[-2]} channels along {len(kernel)} axes, not images "
            f"{shape}"
        )
    strides = _strides(strides, size)
    return Geometry(size, kernel, strides, _pads(padding, size, kernel, strides))


def met(geometry: Geometry, w: jax.Array) -> tuple[Geometry, jax.Array]:
    """The same convolution without the edges of the kernel that never meet an image.

    A kernel of 4x4 that halves images of 2x2 has twelve such taps of sixteen, and as one of many
    channels takes longer to read than to multiply.
    """
    cuts, pads = [], []
    axes = zip(*dataclasses.astuple(geometry), geometry.out_size, strict=True)
    for n, kernel, stride, (low, high), out in axes:
        met = [k for k in range(kernel) if any(0 <= o * stride + k - low < n for o in range(out))]
        if not met:
            return geometry, w
        cuts.append(slice(met[0], met[-1] + 1))
        pads.append((low - met[0], high - (kernel - met[-1] - 1)))
    kernel = tuple(cut.stop - cut.start for cut in cuts)
    if kernel == geometry.kernel:
        return geometry, w
    return dataclasses.replace(geometry, kernel=kernel, pads=tuple(pads)), w[tuple(cuts)]


def conv(
    x: jax.Array,
    w: jax.Array,
    *,
    strides: int | tuple[int, ...] = 1,
    padding: Padding = "SAME",
) -> jax.Array:
    """Cross-correlates images with a kernel, as `lax.conv_general_dilated` does.

    Args:
      x: images [B, H, W, I], or volumes [B, D, H, W, I].
      w: kernel [KH, KW, I, O], of volumes [KD, KH, KW, I, O].
      strides: window strides, one number or one for each axis.
      padding: 'SAME', 'VALID', one number for every side, or (low, high) for each axis.

    Returns:
      [B, OH, OW, O], of volumes [B, OD, OH, OW, O]. Reverse-mode differentiable to any order.

    Raises:
      ValueError: the kernel takes another number of axes or channels.
    """
    geometry = geometry_of(x.shape, w, strides, padding)
    if set(geometry.kernel) == {1} and set(geometry.pads) == {(0, 0)}:
        # What the strides jump over is never read; without it this is a product of matrices.
        x = x[:, *(slice(None, None, stride) for stride in geometry.strides)]
        geometry = geometry_of(x.shape, w, 1, padding)
    geometry, w = met(geometry, w)
    return forward(geometry, x, w)


def forked_conv(
    x: jax.Array,
    w: jax.Array,
    *,
    strides: int | tuple[int, ...] = 1,
    padding: Padding = "SAME",
) -> tuple[jax.Array, jax.Array]:
    """`conv` of images that go elsewhere too, such as past the layer on a shortcut.

    Whatever uses the x returned here gives its gradient to the convolution, which adds its own in
    the pass in which it computes it. Two uses of one x instead would have both gradients written,
    read again and added.

    Args:
      x: images or volumes, as for `conv`.
      w: kernel.
      strides: window strides.
      padding: likewise.

    Returns:
      What `conv` returns, and x.

    Raises:
      ValueError: the kernel takes another number of axes or channels.
    """
    geometry, w = met(geometry_of(x.shape, w, strides, padding), w)
    return _forked(geometry, x, w)


def conv_transpose(
    y: jax.Array,
    w: jax.Array,
    *,
    strides: int | tuple[int, ...] = 1,
    padding: Padding = "SAME",
    size: tuple[int, ...] | None = None,
) -> jax.Array:
    """The transposed convolution: the input gradient of `conv` with the same kernel.

    Args:
      y: images [B, H, W, I], or volumes [B, D, H, W, I].
      w: kernel [KH, KW, O, I], of volumes [KD, KH, KW, O, I]: that of the convolution from the
        result back to y.
      strides: strides of that convolution, which is how many times larger the result is; one number
        or one for each axis.
      padding: padding of that convolution.
      size: (OH, OW) or (OD, OH, OW) of the result; default: y's times the strides.

    Returns:
      [B, OH, OW, O], of volumes [B, OD, OH, OW, O]. Reverse-mode differentiable to any order.

    Raises:
      ValueError: if the convolution from a result of that size does not give y's size.
    """
    strides = _strides(strides, y.shape[1:-1])
    size = size or tuple(n * s for n, s in zip(y.shape[1:-1], strides, strict=True))
    kernel = w.shape[:-2]
    geometry = Geometry(size, kernel, strides, _pads(padding, size, kernel, strides))
    if geometry.out_size != y.shape[1:-1]:
        raise ValueError(
            f"a {size} image convolved with kernel {kernel}, strides {strides}, padding {padding}"
            f" is {geometry.out_size}, not {y.shape[1:-1]}: give conv_transpose another size"
        )
    geometry, w = met(geometry, w)
    return input_gradient(geometry, y, w)


class Conv(nn.Module):
    """Square-kernel convolution layer on [B, H, W, C] or [B, D, H, W, C] with an optional bias.

    `spectral` divides the kernel by its largest singular value, see `nn.spectral`. Images and
    kernel are multiplied in `dtype`, see `nn.precision`; parameters stay in float32. With `fork`
    the layer returns its images too, in that type, for a shortcut past it; see `forked_conv`.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    spectral: bool = False
    fork: bool = False
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Images [B, H, W, C] to [B, OH, OW, features], and volumes likewise."""
        shape = (*(self.kernel,) * (x.ndim - 2), x.shape[-1], self.features)
        w = self.param("kernel", self.kernel_init, shape)
        w = normalised(self, w) if self.spectral else w
        x, w = cast(self.dtype, x, w)
        if self.fork:
            y, x = forked_conv(x, w, strides=self.stride, padding=self.padding)
        else:
            y = conv(x, w, strides=self.stride, padding=self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            y = y + bias.astype(y.dtype)
        return (y, x) if self.fork else y


class ConvTranspose(nn.Module):
    """Square-kernel transposed convolution layer: `stride` times larger images with `features`.

    The kernel parameter is [kernel, kernel, features, C], of volumes with one axis more: the kernel
    of the convolution that the layer transposes. For `dtype` see `Conv`.
    """

    features: int
    kernel: int = 4
    stride: int = 2
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] to [B, H * stride, W * stride, features], and volumes likewise."""
        shape = (*(self.kernel,) * (x.ndim - 2), self.features, x.shape[-1])
        w = self.param("kernel", self.kernel_init, shape)
        x, w = cast(self.dtype, x, w)
        y = conv_transpose(x, w, strides=self.stride)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            y = y + bias.astype(y.dtype)
        return y
