"""The convolutional variational autoencoder (Kingma and Welling 2014)."""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from nn.conv import Conv, ConvTranspose
from nn.norm import GroupNorm
from nn.precision import Dtype, widen

_SMALLEST = 4  # shortest side of what becomes the latent vector
_MOST = 8  # times `width`: channels there are no more than that


class Latent(NamedTuple):
    """The normal distribution of an image's latent vector, [B, latent] each."""

    mean: jax.Array
    log_variance: jax.Array


class VAE(nn.Module):
    """Images [B, H, W, C] or volumes [B, D, H, W, C] through a short vector.

    Convolutions of stride 2 down to a shortest side of 4, a vector, and the same back.

    Attributes:
        width: channels after the first halving, doubled at each further one up to 8 times.
        latent: length of the vector.
        dtype: of the convolutions' products, see `nn.precision`.
    """

    width: int = 16
    latent: int = 128
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> tuple[jax.Array, Latent]:
        """Reconstructions of images, and the distributions of their vectors.

        Args:
            x: [B, *S, C] in [-1, 1], sides multiples of 2^n for a shortest side of 4 * 2^n or more.
            keys: [B], each for drawing the vector of its image; None takes the means.

        Returns:
            Images [B, *S, C] in [-1, 1], and the latent distributions.

        Raises:
            ValueError: sides that can't be halved so often.
        """
        count, *sides, channels = x.shape
        halvings = (min(sides) // _SMALLEST).bit_length() - 1
        if halvings < 1 or any(side % 2**halvings for side in sides):
            raise ValueError(f"the VAE halves images {halvings} times, and {tuple(sides)} can't be")
        widths = [self.width * min(2**level, _MOST) for level in range(halvings)]
        h = x
        for width in widths:
            h = GroupNorm(relu=True)(Conv(width, 4, 2, use_bias=False, dtype=self.dtype)(h))
        shape = h.shape[1:]
        parameters = nn.Dense(2 * self.latent, name="to_latent")(widen(h).reshape(count, -1))
        latent = Latent(*jnp.split(parameters, 2, axis=-1))
        z = latent.mean
        if keys is not None:
            draw = functools.partial(jax.random.normal, shape=(self.latent,))
            z = z + jnp.exp(latent.log_variance / 2) * jax.vmap(draw)(keys)
        h = nn.Dense(math.prod(shape), name="from_latent")(z).reshape(count, *shape)
        h = GroupNorm(relu=True)(h)
        for width in reversed(widths[:-1]):
            h = ConvTranspose(width, use_bias=False, dtype=self.dtype)(h)
            h = GroupNorm(relu=True)(h)
        d = ConvTranspose(channels, dtype=self.dtype, name="to_image")(h)
        return jnp.tanh(widen(d)), latent
