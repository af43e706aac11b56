"""The U-Net (Ronneberger et al. 2015): whether each place of an image belongs to a lesion."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from nn.conv import Conv, ConvTranspose
from nn.norm import GroupNorm
from nn.precision import Dtype, widen

HALVINGS = 4
_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class UNet(nn.Module):
    """Logits of a mask, from images [B, H, W, C] or volumes [B, D, H, W, C].

    As published but for two things: convolutions are padded, so that the mask is as large as the
    image, and group normalisation follows each of them.

    Attributes:
        width: channels at the full resolution, doubled at each halving; 64 is published.
        dtype: of the products, see `nn.precision`; logits are float32.
    """

    width: int = 64
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, *S, C] with sides that are multiples of 16, to logits [B, *S]."""
        if any(side % 2**HALVINGS for side in x.shape[1:-1]):
            sides = x.shape[1:-1]
            raise ValueError(f"the U-Net halves images {HALVINGS} times, and {sides} can't be")
        conv = functools.partial(
            Conv, use_bias=False, kernel_init=_he_normal, dtype=self.dtype, padding="SAME"
        )
        skipped = []
        for level in range(HALVINGS):
            x = _two(conv, x, self.width * 2**level)
            skipped.append(x)
            x = _halved(x)
        x = _two(conv, x, self.width * 2**HALVINGS)
        for level in reversed(range(HALVINGS)):
            x = ConvTranspose(self.width * 2**level, 2, dtype=self.dtype)(x)
            x = _two(conv, jnp.concatenate([skipped[level], x], axis=-1), x.shape[-1])
        return widen(Conv(1, 1, dtype=self.dtype, name="to_mask")(x))[..., 0]


def _two(conv: functools.partial, x: jax.Array, width: int) -> jax.Array:
    """Two convolutions, each with its normalisation and ReLU."""
    for _ in range(2):
        x = GroupNorm(relu=True)(conv(width)(x))
    return x


def _halved(x: jax.Array) -> jax.Array:
    """The largest of every 2 x 2 places, or 2 x 2 x 2."""
    pairs = [number for side in x.shape[1:-1] for number in (side // 2, 2)]
    return x.reshape(len(x), *pairs, x.shape[-1]).max(tuple(range(2, 2 * x.ndim - 3, 2)))
