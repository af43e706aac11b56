"""The autoencoder of the translator's own size: what its layers can give back of an image."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan.models.translator import Translator
from nn.precision import Dtype


class Autoencoder(nn.Module):
    """The translator without a code, whose output does not begin with the input.

    Attributes:
        width: see `gan.models.translator.Translator`.
        blocks: likewise.
        dtype: likewise.
    """

    width: int = 64
    blocks: int = 6
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, *S, C] in [-1, 1], sides multiples of 4, to [B, *S, C]."""
        layers = Translator(self.width, self.blocks, "plain", self.dtype, name="translator")
        return layers(x, jnp.zeros((len(x), 0), x.dtype))
