"""Group normalisation, plain and modulated by a class label.

Statistics are taken within one image, so an image's result never depends on the others in its
batch, in training as in use.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

_EPSILON = 1e-5


def group_count(channels: int, most: int = 32, least_channels: int = 4) -> int:
    """The largest divisor of `channels` up to `most` that leaves each group `least_channels`."""
    limit = max(1, min(most, channels // least_channels))
    return next(groups for groups in range(limit, 0, -1) if channels % groups == 0)


def normalise_groups(x: jax.Array, groups: int, epsilon: float = _EPSILON) -> jax.Array:
    """Group normalisation without scale and shift (Wu and He 2018, equations 1 and 2).

    Args:
        x: [B, H, W, C], C divisible by `groups`.
        groups: number of channel groups.
        epsilon: added to the variance.

    Returns:
        [B, H, W, C] with mean 0 and variance 1 in every group of every image.
    """
    batch, height, width, channels = x.shape
    grouped = x.reshape(batch, height * width, groups, channels // groups)
    mean = grouped.mean((1, 3), keepdims=True)
    centred = grouped - mean
    variance = jnp.square(centred).mean((1, 3), keepdims=True)
    return (centred * lax.rsqrt(variance + epsilon)).reshape(x.shape)


class GroupNorm(nn.Module):
    """Group normalisation with a learned scale and shift per channel."""

    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, H, W, C]."""
        channels = x.shape[-1]
        scale = self.param("scale", self.scale_init, (channels,))
        shift = self.param("shift", nn.initializers.zeros_init(), (channels,))
        return normalise_groups(x, group_count(channels)) * scale + shift


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
        chosen = jax.nn.one_hot(labels, self.num_classes, dtype=x.dtype)
        scale = 1 + chosen @ (scale - 1)
        shift = chosen @ shift
        normalised = normalise_groups(x, group_count(channels))
        return normalised * scale[:, None, None, :] + shift[:, None, None, :]
