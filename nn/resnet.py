"""Residual classification networks with group normalisation (He et al. 2016; Wu and He 2018)."""

from collections.abc import Callable, Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from nn.conv import Conv
from nn.norm import GroupNorm
from nn.pool import max_pool
from nn.precision import Dtype, widen

# Depth to (blocks per stage, whether the blocks are bottlenecks), table 1 of He et al. 2016; depth
# 10 is one basic block per stage.
STAGES = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}
DEPTHS = tuple(STAGES)
_SMALL_SIZE = 64
_TOP_SHARE = 4  # one place in so many enters the `top` head
_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Block(nn.Module):
    """One residual block.

    Attributes:
        width: channels of the 3x3 convolutions.
        stride: of the first 3x3 convolution and of the shortcut.
        bottleneck: 1x1-3x3-1x1 with four times `width` at the end instead of 3x3-3x3.
        dtype: of the products, see `nn.precision`.
    """

    width: int
    stride: int
    bottleneck: bool
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H, W, C] to [B, H / stride, W / stride, width or 4 * width]."""
        if self.bottleneck:
            layers = (
                (self.width, 1, 1),
                (self.width, 3, self.stride),
                (4 * self.width, 1, 1),
            )
        else:
            layers = ((self.width, 3, self.stride), (self.width, 3, 1))
        first, *others = layers
        x, shortcut = _conv(*first, self.dtype, fork=True)(x)
        for layer in others:
            x = _conv(*layer, self.dtype)(GroupNorm(relu=True)(x))
        features = layers[-1][0]
        # A last scale of zero starts every block as the identity, which lets 100 layers train.
        last = GroupNorm(relu=True, scale_init=nn.initializers.zeros_init())
        if shortcut.shape != x.shape:
            shortcut = GroupNorm()(_conv(features, 1, self.stride, self.dtype)(shortcut))
        return last(x, shortcut)


def average(x: jax.Array) -> jax.Array:
    """Mean over all places: [B, H, W, C] to [B, C] (He et al. 2016)."""
    return x.mean((1, 2))


def top(x: jax.Array) -> jax.Array:
    """Mean of each channel over the quarter of the places where it is highest: [B, C].

    Between the maximum and the mean, so that what a few patches show isn't averaged away (the
    top instances of Durand et al. 2016, WELDON).
    """
    places = x.reshape(x.shape[0], -1, x.shape[-1])
    count = max(1, places.shape[1] // _TOP_SHARE)
    return jnp.sort(places, axis=1)[:, -count:].mean(1)


def bilinear(x: jax.Array) -> jax.Array:
    """Which channels are high together: [B, H, W, C] to [B, C * C] (Lin et al. 2015).

    The products of all pairs of channels, averaged over the places, then their signed square roots,
    scaled to length 1.
    """
    places = x.reshape(x.shape[0], -1, x.shape[-1])
    pairs = jnp.einsum("bpc,bpd->bcd", places, places) / places.shape[1]
    pairs = pairs.reshape(x.shape[0], -1)
    # Roots have no derivative at 0, where many channels are.
    roots = jnp.sign(pairs) * jnp.sqrt(jnp.abs(pairs) + 1e-6)
    return roots / jnp.sqrt(jnp.square(roots).sum(-1, keepdims=True) + 1e-6)


HEADS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "average": average,
    "top": top,
    "bilinear": bilinear,
}


class ResNet(nn.Module):
    """A residual network for images [B, H, W, C] in [-1, 1].

    There are no batch statistics: an image's outputs never depend on its neighbours in the batch.

    Attributes:
        num_outputs: length of the last axis of the result.
        depth: 10, 18, 34, 50 or 101.
        width: channels of the first stage.
        stem: 'imagenet' (7x7 stride 2 and a max pool), 'small' (3x3 stride 1), or 'auto': small up
            to 64 px.
        dtype: of the convolutions' products, see `nn.precision`; features and logits are float32.
        head: how the places become features, of `HEADS`.
    """

    num_outputs: int
    depth: int = 18
    width: int = 64
    stem: Literal["small", "imagenet", "auto"] = "auto"
    dtype: Dtype = None
    head: str = "average"

    def setup(self):
        """Names the layers; flax calls it before either method."""
        if self.depth not in STAGES:
            raise ValueError(f"ResNet depth {self.depth} is unknown: give one of {DEPTHS}")
        if self.stem not in ("small", "imagenet", "auto"):
            raise ValueError(f"ResNet stem {self.stem!r} is unknown: 'small', 'imagenet' or 'auto'")
        if self.head not in HEADS:
            raise ValueError(f"ResNet head {self.head!r} is unknown: give one of {tuple(HEADS)}")
        counts, bottleneck = STAGES[self.depth]
        self.small_stem = _conv(self.width, 3, 1, self.dtype)
        self.imagenet_stem = _conv(self.width, 7, 2, self.dtype)
        self.stem_norm = GroupNorm(relu=True)
        self.blocks = [
            Block(
                self.width * 2**stage, 2 if stage > 0 and index == 0 else 1, bottleneck, self.dtype
            )
            for stage, count in enumerate(counts)
            for index in range(count)
        ]
        self.last = nn.Dense(self.num_outputs, name="head")

    def places(self, x: jax.Array) -> jax.Array:
        """Features of every place after the last block: [B, H, W, C] to [B, P, Q, F]."""
        small = self.stem == "small" or (self.stem == "auto" and max(x.shape[1:3]) <= _SMALL_SIZE)
        if small:
            x = self.stem_norm(self.small_stem(x))
        else:
            x = max_pool(self.stem_norm(self.imagenet_stem(x)), 3, 2)
        for block in self.blocks:
            x = block(x)
        return widen(x)

    def features(self, x: jax.Array) -> jax.Array:
        """Features of the whole image: [B, H, W, C] to [B, F]; F is C * C for `bilinear`."""
        return HEADS[self.head](self.places(x))

    def judge(self, places: jax.Array) -> jax.Array:
        """Logits of what `places` returned: [B, P, Q, F] to [B, num_outputs]."""
        return self.last(HEADS[self.head](places))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits: [B, H, W, C] to [B, num_outputs]."""
        return self.last(self.features(x))


def _conv(features: int, kernel: int, stride: int, dtype: Dtype, fork: bool = False) -> Conv:
    # Padding by half the kernel on both sides keeps a stride-2 layer centred, as 'SAME' does not.
    return Conv(
        features,
        kernel,
        stride,
        kernel // 2,
        use_bias=False,
        kernel_init=_he_normal,
        fork=fork,
        dtype=dtype,
    )
