"""Group normalisation, plain and modulated by a class label.

Statistics are taken within one image, so an image's result never depends on the others in its
batch, in training as in use.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from nn.precision import widen

_EPSILON = 1e-5


def group_count(channels: int, most: int = 32, least_channels: int = 4) -> int:
    """The largest divisor of `channels` up to `most` that leaves each group `least_channels`."""
    limit = max(1, min(most, channels // least_channels))
    return next(groups for groups in range(limit, 0, -1) if channels % groups == 0)


def group_norm(
    x: jax.Array,
    groups: int,
    scale: jax.Array,
    shift: jax.Array,
    epsilon: float = _EPSILON,
) -> jax.Array:
    """Group normalisation, then scale and shift (Wu and He 2018, equations 1, 2 and 7).

    Statistics are summed over places first and over the channels of a group in a second, small
    step: long rows of channels stay whole, which is several times faster on CPU. The derivative is
    written out for the same reason; it can be differentiated again.

    Args:
        x: [B, H, W, C], C divisible by `groups`.
        groups: number of channel groups.
        scale: [B or 1, C].
        shift: [B or 1, C].
        epsilon: added to the variance.

    Returns:
        [B, H, W, C] in x's type, computed in float32 or wider; before scale and shift every group
        of every image has mean 0 and variance 1.
    """
    channels = (len(x), x.shape[-1])
    scale, shift = (jnp.broadcast_to(part, channels) for part in (scale, shift))
    return _group_norm(groups, epsilon, widen(x), scale, shift).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _group_norm(
    groups: int, epsilon: float, x: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
    """Of x [B, H, W, C] with scale and shift [B, C]."""
    return _forward(groups, epsilon, x, scale, shift)[0]


def _forward(groups: int, epsilon: float, x: jax.Array, scale: jax.Array, shift: jax.Array):
    """The result and what its derivative needs; mean and reciprocal deviation are [B, C]."""
    mean = _group_mean(groups, x, x.sum((1, 2)))
    centred = x - mean[:, None, None, :]
    inverse = lax.rsqrt(_group_mean(groups, x, jnp.square(centred).sum((1, 2))) + epsilon)
    return _affine(centred, inverse * scale, shift), (x, mean, inverse, scale)


def _backward(groups: int, epsilon: float, saved: tuple[jax.Array, ...], g: jax.Array):
    """Two sums over the image, and then one number per channel times g and one times x.

    With n = (x - mean) inverse, the gradient of x is inverse (s g - mean(s g) - n mean(s g n)),
    s being the scale and the means those of the group.
    """
    del epsilon
    x, mean, inverse, scale = saved
    centred = x - mean[:, None, None, :]
    d_shift = g.sum((1, 2))
    d_scale = (g * centred).sum((1, 2)) * inverse
    slope = -jnp.square(inverse) * _group_mean(groups, x, scale * d_scale)
    offset = -inverse * _group_mean(groups, x, scale * d_shift)
    d_x = _affine(g, inverse * scale, offset) + centred * slope[:, None, None, :]
    return d_x, d_scale, d_shift


_group_norm.defvjp(_forward, _backward)


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
    """Group normalisation with a learned scale and shift per channel."""

    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, H, W, C]."""
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,))
        shift = self.param("shift", nn.initializers.zeros_init(), (channels,))
        return group_norm(x, group_count(channels), scale[None], shift[None])


class ClassGroupNorm(nn.Module):
    """Group normalisation whose scale and shift are embeddings of the class label.

    Conditional normalisation of Dumoulin et al. 2017 (equation 5), with statistics of one image.
    Label -1 means "unknown": scale 1, shift 0, and no gradient to any embedding.

    Attributes:
        num_classes: labels are -1 ... num_classes - 1.
    """

    num_classes: int

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
        return group_norm(x, group_count(channels), scale, shift)
