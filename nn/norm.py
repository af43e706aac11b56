"""Group normalisation, plain and modulated by a class label, with the ReLU that follows it.

Statistics are taken within one image, so an image's result never depends on the others in its
batch, in training as in use.
"""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from nn.native import build
from nn.native import norm as native
from nn.precision import widen

_EPSILON = 1e-5


def group_count(channels: int, most: int = 32, least_channels: int = 4) -> int:
    """The largest divisor of `channels` up to `most` that leaves each group `least_channels`."""
    limit = max(1, min(most, channels // least_channels))
    return next(groups for groups in range(limit, 0, -1) if channels % groups == 0)


@dataclasses.dataclass(frozen=True)
class Form:
    """The static part of a normalisation.

    Attributes:
        groups: number of channel groups.
        epsilon: added to the variance.
        relu: whether the rectifier follows.
    """

    groups: int
    epsilon: float
    relu: bool


def group_norm(
    x: jax.Array,
    groups: int,
    scale: jax.Array,
    shift: jax.Array,
    *,
    relu: bool = False,
    residual: jax.Array | None = None,
    epsilon: float = _EPSILON,
) -> jax.Array:
    """Group normalisation, then scale and shift (Wu and He 2018, equations 1, 2 and 7).

    What follows it in a network is done in the same pass, since on CPU reading and writing an image
    takes longer than computing with it. The derivative is written out for the same reason; it can
    be differentiated again.

    Args:
        x: [B, H, W, C] or volumes [B, D, H, W, C], C divisible by `groups`.
        groups: number of channel groups.
        scale: [B or 1, C].
        shift: [B or 1, C].
        relu: whether negative results become zero.
        residual: of x's shape, to be added before the ReLU, which it needs.
        epsilon: added to the variance.

    Returns:
        Of x's shape and in its type, computed in float32 or wider; before scale and shift every
        group of every image has mean 0 and variance 1.

    Raises:
        ValueError: if there is a residual and no ReLU or one of another shape, or if `groups` does
            not divide C.
    """
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"{x.shape[-1]} channels can't be divided into {groups} groups")
    if residual is not None and not relu:
        raise ValueError("group_norm adds a residual only before a ReLU: give relu=True")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"a residual {residual.shape} can't be added to images {x.shape}")
    channels = (len(x), x.shape[-1])
    # Where its places lie does not matter: a volume is an image of all its rows.
    rows = (len(x), math.prod(x.shape[1:-2]), *x.shape[-2:])
    wide = widen(x).reshape(rows)
    scale, shift = (jnp.broadcast_to(part, channels).astype(wide.dtype) for part in (scale, shift))
    joined = () if residual is None else (residual.astype(wide.dtype).reshape(rows),)
    y, *_ = _norm(Form(groups, epsilon, relu), wide, scale, shift, joined)
    return y.astype(x.dtype).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _norm(
    form: Form,
    x: jax.Array,
    scale: jax.Array,
    shift: jax.Array,
    joined: tuple[jax.Array, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The result, and for the derivative mean and reciprocal deviation [B, C], which are constants.

    Scale and shift are [B, C]; `joined` holds the residual, if there is one.
    """
    plain = functools.partial(_plain, form)
    if not _compiled(x):
        return plain(x, scale, shift, *joined)
    cpu = functools.partial(native.forward, form)
    return lax.platform_dependent(x, scale, shift, *joined, cpu=cpu, default=plain)


def _forward(form, x, scale, shift, joined):
    y, mean, inverse = _norm(form, x, scale, shift, joined)
    return (y, mean, inverse), (mean, inverse, x, scale, shift, (y,) if joined else ())


def _backward(form, saved, cotangents):
    *gradients, joined = _gradient(form, *saved, cotangents[0])
    return *gradients, joined


_norm.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradient(form, mean, inverse, x, scale, shift, y, g):
    """Gradients of x, scale, shift and the joined residual, as a tuple of one or none.

    Mean and inverse are those of x: its own derivative goes through them, they have none.
    """
    plain = functools.partial(_plain_gradient, form)
    operands = (x, mean, inverse, scale, shift, g, *y)
    if not _compiled(x):
        gradients = plain(*operands)
    else:
        cpu = functools.partial(native.backward, form)
        gradients = lax.platform_dependent(*operands, cpu=cpu, default=plain)
    return *gradients[:3], tuple(gradients[3:])


def _gradient_forward(form, mean, inverse, x, scale, shift, y, g):
    given = (mean, inverse, x, scale, shift, y, g)
    return _gradient(form, *given), given


def _gradient_backward(form, saved, cotangents):
    """By differentiating the formula, whose mean and deviation follow from x here."""
    mean, inverse, x, scale, shift, y, g = saved

    def gradients(x, scale, shift, g):
        found = _plain_gradient(form, x, *_moments(form, x), scale, shift, g, *y)
        return *found[:3], tuple(found[3:])

    d_x, d_scale, d_shift, d_g = jax.vjp(gradients, x, scale, shift, g)[1](cotangents)
    constants = jax.tree.map(jnp.zeros_like, (mean, inverse, y))
    return *constants[:2], d_x, d_scale, d_shift, constants[2], d_g


_gradient.defvjp(_gradient_forward, _gradient_backward)


def _compiled(x: jax.Array) -> bool:
    """Whether the library takes these images; it expects some."""
    return x.size > 0 and build.computes(x.dtype)


def _moments(form: Form, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means and reciprocal deviations, [B, C] each.

    They are summed over places first and over the channels of a group in a second, small step: long
    rows of channels stay whole, which is several times faster on CPU.
    """
    mean = _group_mean(form.groups, x, x.sum((1, 2)))
    squares = jnp.square(x - mean[:, None, None, :]).sum((1, 2))
    return mean, lax.rsqrt(_group_mean(form.groups, x, squares) + form.epsilon)


def _plain(form, x, scale, shift, *residual):
    mean, inverse = _moments(form, x)
    y = _affine(x - mean[:, None, None, :], inverse * scale, shift)
    y = y + residual[0] if residual else y
    return nn.relu(y) if form.relu else y, mean, inverse


def _plain_gradient(form, x, mean, inverse, scale, shift, g, *y):
    """Two sums over the image, and then one number per channel times g and one times x.

    With n = (x - mean) inverse and g what passes the ReLU, the gradient of x is
    inverse (s g - mean(s g) - n mean(s g n)), s being the scale and the means those of the group.
    """
    centred = x - mean[:, None, None, :]
    if form.relu:
        before = y[0] if y else _affine(centred, inverse * scale, shift)
        g = jnp.where(before > 0, g, 0)
    d_shift = g.sum((1, 2))
    d_scale = (g * centred).sum((1, 2)) * inverse
    slope = -jnp.square(inverse) * _group_mean(form.groups, x, scale * d_scale)
    offset = -inverse * _group_mean(form.groups, x, scale * d_shift)
    d_x = _affine(g, inverse * scale, offset) + centred * slope[:, None, None, :]
    return d_x, d_scale, d_shift, *((g,) if y else ())


def _group_mean(groups: int, x: jax.Array, channel_sums: jax.Array) -> jax.Array:
    """Means over the places of x and its groups, one for each channel: [B, C] to [B, C]."""
    batch, height, width, channels = x.shape
    members = channels // groups
    sums = channel_sums.reshape(batch, groups, members).sum(-1)
    return jnp.repeat(sums / (height * width * members), members, 1)


def _affine(x: jax.Array, factor: jax.Array, term: jax.Array) -> jax.Array:
    """Multiplies x [B, H, W, C] by `factor` and adds `term`, both [B, C]."""
    return x * factor[:, None, None, :] + term[:, None, None, :]


class GroupNorm(nn.Module):
    """Group normalisation with a learned scale and shift per channel.

    Attributes:
        relu: whether a ReLU follows.
        scale_init: of the scale.
        groups: of channels; by default what `group_count` says. One for each channel is instance
            normalisation (Ulyanov et al. 2016).
    """

    relu: bool = False
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()
    groups: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, residual: jax.Array | None = None) -> jax.Array:
        """Normalises x [B, ..., C] and adds the residual, of the same shape, before the ReLU."""
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,))[None]
        shift = self.param("shift", nn.initializers.zeros_init(), (channels,))[None]
        groups = self.groups or group_count(channels)
        return group_norm(x, groups, scale, shift, relu=self.relu, residual=residual)


class ClassGroupNorm(nn.Module):
    """Group normalisation whose scale and shift are embeddings of the class label.

    Conditional normalisation of Dumoulin et al. 2017 (equation 5), with statistics of one image.
    Label -1 means "unknown": scale 1, shift 0, and no gradient to any embedding.

    Attributes:
        num_classes: labels are -1 ... num_classes - 1.
        relu: whether a ReLU follows.
    """

    num_classes: int
    relu: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array) -> jax.Array:
        """Normalises x [B, H, W, C] for labels [B] int32."""
        channels = x.shape[-1]
        shape = (self.num_classes, channels)
        scale = self.param("scale", nn.initializers.ones_init(), shape)
        shift = self.param("shift", nn.initializers.zeros_init(), shape)
        # A one-hot product instead of a gather: unknown labels give a zero row, and its gradient
        # is a matrix product instead of a scatter.
        chosen = jax.nn.one_hot(labels, self.num_classes, dtype=scale.dtype)
        scale = 1 + chosen @ (scale - 1)
        shift = chosen @ shift
        return group_norm(x, group_count(channels), scale, shift, relu=self.relu)
