"""Label-conditioned residual translator and its two-headed discriminator.

The networks of StarGAN (Choi et al. 2018), which Fixed-Point GAN shares but for the
translator's output (US 11,164,021; Rahman Siddiquee et al. 2019). The same code serves images
[B, H, W, C] and volumes [B, D, H, W, C]; *S stands for their spatial axes.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from nn.conv import Conv, ConvTranspose
from nn.norm import GroupNorm
from nn.precision import Dtype, widen
from nn.rectified import rectified_convs

# How the last convolution's result d, and the input x, become the translated image.
OUTPUTS = ("plain", "tanh", "clip", "atanh", "blend")
HALVINGS = 6  # of the discriminator: a patch covers 64 pixels
_SMALLEST = 8  # side of an image that the discriminator can still take
_INSIDE = 0.999  # atanh is infinite at 1
# What PyTorch, in which the networks were published, begins with.
_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_init_transposed = nn.initializers.variance_scaling(
    1 / 3, "fan_in", "uniform", in_axis=-2, out_axis=-1
)
# With it, six layers without normalisation shrink an image to a hundredth, and the discriminator
# needs many hundred updates before it tells anything; so it begins at unit gain (He et al. 2015).
_init_discriminator = nn.initializers.he_normal()
# Where d = 0 is the identity, the translator begins near it.
_init_small = nn.initializers.variance_scaling(1e-4, "fan_in", "uniform")


def joined(x: jax.Array, d: jax.Array, output: str) -> jax.Array:
    """The translated image of an input and what the network says of it.

    'plain' is StarGAN's, tanh(d), and 'tanh' is Fixed-Point GAN's as published, tanh(x + d). That
    is not the identity at d = 0: black (-1) becomes -0.76. The others are: 'clip', x + d clipped to
    [-1, 1]; 'atanh', tanh(atanh(0.999 x) + d), the identity to 0.001; and 'blend',
    m tanh(d') + (1 - m) x with m = (1 + tanh(d'')) / 2, where d'' is the last channel of d (Rahman
    Siddiquee et al. 2022, HealthyGAN).

    Args:
        x: [B, *S, C] in [-1, 1].
        d: [B, *S, C], for 'blend' [B, *S, C + 1].
        output: one of `OUTPUTS`.

    Returns:
        [B, *S, C] in [-1, 1].

    Raises:
        ValueError: another `output`.
    """
    if output == "plain":
        return jnp.tanh(d)
    if output == "tanh":
        return jnp.tanh(x + d)
    if output == "clip":
        return jnp.clip(x + d, -1, 1)
    if output == "atanh":
        return jnp.tanh(jnp.arctanh(_INSIDE * x) + d)
    if output == "blend":
        mask = (1 + jnp.tanh(d[..., -1:])) / 2
        return mask * jnp.tanh(d[..., :-1]) + (1 - mask) * x
    raise ValueError(f"unknown output {output!r}: give one of {OUTPUTS}")


class Translator(nn.Module):
    """Images in a domain from images and that domain's code.

    Instance normalisation removes what is constant over an image, the planes of the code among it;
    the zero padding of the convolutions is what lets the network see them (Choi et al., comment in
    their model.py).

    Attributes:
        width: channels at the full resolution; 64 is published.
        blocks: residual blocks at a quarter of the resolution.
        output: one of `OUTPUTS`.
        dtype: of the products, see `nn.precision`; images are float32.
    """

    width: int = 64
    blocks: int = 6
    output: str = "tanh"
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, codes: jax.Array) -> jax.Array:
        """Images [B, *S, C] in [-1, 1], sides multiples of 4, and codes [B, K] to [B, *S, C]."""
        if any(side % 4 for side in x.shape[1:-1]):
            raise ValueError(f"the translator halves images twice, and {x.shape[1:-1]} can't be")
        conv = functools.partial(Conv, use_bias=False, kernel_init=_init, dtype=self.dtype)
        up = functools.partial(
            ConvTranspose, use_bias=False, kernel_init=_init_transposed, dtype=self.dtype
        )
        places = jnp.expand_dims(codes, tuple(range(1, x.ndim - 1)))
        planes = jnp.broadcast_to(places, (*x.shape[:-1], codes.shape[-1]))
        h = jnp.concatenate([x, planes.astype(x.dtype)], axis=-1)
        h = _instance_norm(conv(self.width, 7, name="from_image")(h))
        for doubling in (2, 4):
            h = _instance_norm(conv(doubling * self.width, 4, 2)(h))
        for _ in range(self.blocks):
            inner, h = conv(h.shape[-1], fork=True)(h)
            inner = conv(h.shape[-1])(_instance_norm(inner))
            h = h + _instance_norm(inner, relu=False)
        for halving in (2, 1):
            h = _instance_norm(up(halving * self.width)(h))
        channels = x.shape[-1] + (self.output == "blend")
        start = _init_small if self.output in ("clip", "atanh") else _init
        d = conv(channels, 7, kernel_init=start, name="to_image")(h)
        return joined(x, widen(d), self.output)


def _instance_norm(x: jax.Array, relu: bool = True) -> jax.Array:
    return GroupNorm(relu=relu, groups=x.shape[-1])(x)


class Discriminator(nn.Module):
    """Realness of every patch of an image, and the domain of the whole.

    Attributes:
        code_size: K, of the domain's codes.
        width: channels after the first halving, doubled at each further one; 64 is published.
        dtype: of the convolutions' products, see `nn.precision`; logits are float32.
    """

    code_size: int
    width: int = 64
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images [B, *S, C] to realness [B, *P] and domain logits [B, K].

        P is S / 64; sides below 64, which are not published, are halved down to 1.
        """
        shortest = min(x.shape[1:-1])
        if shortest < _SMALLEST:
            raise ValueError(f"the discriminator takes images from {_SMALLEST} px, not {shortest}")
        halvings = min(HALVINGS, shortest.bit_length() - 1)
        layer = {"kernel_init": _init_discriminator, "dtype": self.dtype}
        features = [self.width * 2**index for index in range(halvings)]
        x = rectified_convs(x, features, kernel=4, stride=2, slope=0.01, **layer)
        real = Conv(1, use_bias=False, name="realness", **layer)(x)
        # A convolution whose kernel is as large as the image is a product.
        features = widen(x).reshape(len(x), -1)
        domain = nn.Dense(
            self.code_size, use_bias=False, kernel_init=_init_discriminator, name="domain"
        )
        return widen(real)[..., 0], domain(features)
