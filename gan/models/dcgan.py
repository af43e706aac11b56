"""DCGAN-family generator and discriminator for power-of-two sizes, conditional on a class.

Radford et al. 2016 for the layout, with class-modulated group normalisation in the generator and
the projection head of Miyato and Koyama 2018 in the discriminator.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan.models.projection import class_term
from nn.conv import ConvTranspose
from nn.norm import ClassGroupNorm
from nn.precision import Dtype, widen
from nn.rectified import rectified_convs

SIZES = (16, 32, 64, 128)
_SMALLEST = 4
_WIDEST = 8
_init = nn.initializers.normal(0.02)


def widths(size: int, width: int) -> list[int]:
    """Channels at `size` / 2, `size` / 4, ..., 4 px: doubling from `width`, at most 8 times it."""
    if size not in SIZES:
        raise ValueError(f"image size {size} is not supported: give one of {SIZES}")
    stages = (size // _SMALLEST).bit_length() - 1
    return [width * min(2**stage, _WIDEST) for stage in range(stages)]


class Generator(nn.Module):
    """Images from latents and classes.

    Attributes:
        size: height and width of the images in pixels: 16, 32, 64 or 128.
        channels: of the images.
        width: channels of the finest hidden layer.
        num_classes: labels are 0 ... num_classes - 1.
        z_dim: length of a latent.
        dtype: of the products, see `nn.precision`; images are float32.
    """

    size: int
    channels: int
    width: int
    num_classes: int
    z_dim: int = 128
    dtype: Dtype = None

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array) -> jax.Array:
        """Latents [B, z_dim] and labels [B] to images [B, size, size, channels] in [-1, 1]."""
        *finer, widest = widths(self.size, self.width)
        dense = nn.Dense(
            _SMALLEST**2 * widest,
            use_bias=False,
            kernel_init=_init,
            dtype=self.dtype,
            name="from_latent",
        )
        x = dense(z).reshape(-1, _SMALLEST, _SMALLEST, widest)
        x = ClassGroupNorm(self.num_classes, relu=True)(x, labels)
        for width in reversed(finer):
            x = ConvTranspose(width, use_bias=False, kernel_init=_init, dtype=self.dtype)(x)
            x = ClassGroupNorm(self.num_classes, relu=True)(x, labels)
        to_image = ConvTranspose(
            self.channels, kernel_init=_init, dtype=self.dtype, name="to_image"
        )
        return jnp.tanh(widen(to_image(x)))


class Discriminator(nn.Module):
    """Realness of images given their classes, without normalisation (penalties need none).

    Attributes:
        size: height and width of the images in pixels: 16, 32, 64 or 128.
        channels: of the images.
        width: channels of the first layer.
        num_classes: labels are -1 ... num_classes - 1.
        dtype: of the convolutions' products, see `nn.precision`; logits are float32.
    """

    size: int
    channels: int
    width: int
    num_classes: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array) -> jax.Array:
        """Images [B, size, size, channels] and labels [B] int32 to logits [B].

        The logit is w . f(x) + v_label . f(x) (Miyato and Koyama 2018, equation 3), where f keeps
        its 4x4 places, as the last layer of the DCGAN does: summed over them, f cannot tell where a
        stroke lies, and few images teach it classes several times more slowly. Label -1 is the null
        class: the second term is off, and the image trains the unconditional part alone.
        """
        expected = (self.size, self.size, self.channels)
        if x.shape[1:] != expected:
            raise ValueError(f"the discriminator takes images {expected}, not {x.shape[1:]}")
        x = rectified_convs(
            x,
            widths(self.size, self.width),
            kernel=4,
            stride=2,
            slope=0.2,
            kernel_init=_init,
            dtype=self.dtype,
        )
        features = widen(x).reshape(x.shape[0], -1)
        unconditional = nn.Dense(1, kernel_init=_init, name="realness")(features)[:, 0]
        embedding = self.param("class_embedding", _init, (self.num_classes, features.shape[-1]))
        return unconditional + class_term(features, embedding, labels)
