"""Residual generator and projection discriminator, conditional on a class.

Miyato and Koyama 2018 (appendix A) with the channels of their published networks; at 32 px and
below the channels of Miyato et al. 2018, table 4. Batch normalisation is group normalisation here:
an image never depends on the others of its batch.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan.models.projection import class_term
from nn.conv import Conv
from nn.norm import ClassGroupNorm, GroupNorm
from nn.precision import Dtype, widen
from nn.spectral import normalised

# Channels in multiples of the width. Generator: at 4 px, then after each up-block. Discriminator:
# after each block that halves the image, and after each that does not.
UP = {
    16: (4, 4, 4),
    32: (4, 4, 4, 4),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
}
DOWN = {
    16: ((2, 2), (2,)),
    32: ((2, 2), (2, 2)),
    64: ((1, 2, 4, 8, 16), ()),
    128: ((1, 2, 4, 8, 16), (16,)),
}
SIZES = tuple(UP)
_SMALLEST = 4
_glorot = nn.initializers.glorot_uniform()
# The published gain of the convolutions that a ReLU precedes.
_glorot_relu = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


def _upsample(x: jax.Array) -> jax.Array:
    """Nearest neighbours: [B, H, W, C] to [B, 2 H, 2 W, C]."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def _pool(x: jax.Array) -> jax.Array:
    """Averages of 2x2 pixels: [B, 2 H, 2 W, C] to [B, H, W, C]."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


class UpBlock(nn.Module):
    """Class normalisation, ReLU, doubling, convolution; normalisation, ReLU, convolution.

    Attributes:
        features: channels of the result.
        num_classes: labels are -1 ... num_classes - 1.
        dtype: of the products, see `nn.precision`.
    """

    features: int
    num_classes: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array) -> jax.Array:
        """Features [B, H, W, C] and labels [B] to [B, 2 H, 2 W, features]."""
        # A 1x1 convolution and copying pixels commute; this order has a quarter of the products.
        pointwise = Conv(self.features, 1, kernel_init=_glorot, dtype=self.dtype, name="shortcut")
        shortcut = _upsample(pointwise(x))
        x = _upsample(ClassGroupNorm(self.num_classes, relu=True)(x, labels))
        x = Conv(self.features, kernel_init=_glorot_relu, dtype=self.dtype)(x)
        x = ClassGroupNorm(self.num_classes, relu=True)(x, labels)
        return Conv(self.features, kernel_init=_glorot_relu, dtype=self.dtype)(x) + shortcut


class DownBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution, and averages of 2x2 pixels.

    Attributes:
        features: channels of the result.
        halve: whether to average.
        first: whether this is the block on the images, which has no leading ReLU.
        spectral: whether weights are spectrally normalised.
        dtype: of the products, see `nn.precision`.
    """

    features: int
    halve: bool = True
    first: bool = False
    spectral: bool = False
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H, W, C] to [B, H / 2, W / 2, features], or [B, H, W, features]."""
        conv = functools.partial(Conv, spectral=self.spectral, dtype=self.dtype)
        shortcut = _pool(x) if self.halve else x
        if shortcut.shape[-1] != self.features or self.halve:
            # Averaging and a 1x1 convolution commute too.
            shortcut = conv(self.features, 1, kernel_init=_glorot, name="shortcut")(shortcut)
        hidden = self.features if self.first else x.shape[-1]
        x = x if self.first else nn.relu(x)
        x = conv(hidden, kernel_init=_glorot_relu)(x)
        x = conv(self.features, kernel_init=_glorot_relu)(nn.relu(x))
        return (_pool(x) if self.halve else x) + shortcut


class Generator(nn.Module):
    """Images from latents and classes.

    Attributes:
        size: height and width of the images in pixels: 16, 32, 64 or 128.
        channels: of the images.
        width: channels are its multiples; 64 is published.
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
        first, *ups = _channels(UP, self.size)
        first *= self.width
        dense = nn.Dense(
            _SMALLEST**2 * first, kernel_init=_glorot, dtype=self.dtype, name="from_latent"
        )
        x = dense(z).reshape(-1, _SMALLEST, _SMALLEST, first)
        for multiple in ups:
            x = UpBlock(multiple * self.width, self.num_classes, self.dtype)(x, labels)
        x = GroupNorm(relu=True, name="last_norm")(x)
        to_image = Conv(self.channels, kernel_init=_glorot, dtype=self.dtype, name="to_image")
        return jnp.tanh(widen(to_image(x)))


class Discriminator(nn.Module):
    """Realness of images given their classes.

    Attributes:
        size: height and width of the images in pixels: 16, 32, 64 or 128.
        channels: of the images.
        width: channels are its multiples; 64 is published.
        num_classes: labels are -1 ... num_classes - 1.
        spectral: whether all weights are spectrally normalised, as published; without it, use a
            penalty.
        dtype: of the convolutions' products, see `nn.precision`; logits are float32.
    """

    size: int
    channels: int
    width: int
    num_classes: int
    spectral: bool = False
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array) -> jax.Array:
        """Images [B, size, size, channels] and labels [B] int32 to logits [B].

        The logit is w . f(x) + v_label . f(x) (Miyato and Koyama 2018, equation 3), where f is
        summed over places. Label -1 is the null class: the second term is off.
        """
        expected = (self.size, self.size, self.channels)
        if x.shape[1:] != expected:
            raise ValueError(f"the discriminator takes images {expected}, not {x.shape[1:]}")
        halving, plain = _channels(DOWN, self.size)
        for index, multiple in enumerate(halving + plain):
            block = DownBlock(
                multiple * self.width,
                halve=index < len(halving),
                first=index == 0,
                spectral=self.spectral,
                dtype=self.dtype,
            )
            x = block(x)
        features = widen(nn.relu(x)).sum((1, 2))
        weights = self.param("realness", _glorot, (features.shape[-1], 1))
        bias = self.param("realness_bias", nn.initializers.zeros_init(), ())
        embedding = self.param("class_embedding", _glorot, (self.num_classes, features.shape[-1]))
        if self.spectral:
            weights = normalised(self, weights, "realness")
            embedding = normalised(self, embedding, "class_embedding")
        return (features @ weights)[:, 0] + bias + class_term(features, embedding, labels)


def _channels(table: dict, size: int) -> tuple:
    if size not in table:
        raise ValueError(f"image size {size} is not supported: give one of {SIZES}")
    return table[size]
