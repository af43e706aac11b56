"""Residual classification networks with group normalisation (He et al. 2016; Wu and He 2018)."""

from typing import Literal

import flax.linen as nn
import jax

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
        shortcut, features = x, layers[-1][0]
        for index, (width, kernel, stride) in enumerate(layers):
            if index > 0:
                x = GroupNorm(relu=True)(x)
            x = _conv(width, kernel, stride, self.dtype)(x)
        # A last scale of zero starts every block as the identity, which lets 100 layers train.
        last = GroupNorm(relu=True, scale_init=nn.initializers.zeros_init())
        if shortcut.shape != x.shape:
            shortcut = GroupNorm()(_conv(features, 1, self.stride, self.dtype)(shortcut))
        return last(x, shortcut)


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
    """

    num_outputs: int
    depth: int = 18
    width: int = 64
    stem: Literal["small", "imagenet", "auto"] = "auto"
    dtype: Dtype = None

    def setup(self):
        """Names the layers; flax calls it before either method."""
        if self.depth not in STAGES:
            raise ValueError(f"ResNet depth {self.depth} is unknown: give one of {DEPTHS}")
        if self.stem not in ("small", "imagenet", "auto"):
            raise ValueError(f"ResNet stem {self.stem!r} is unknown: 'small', 'imagenet' or 'auto'")
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
        self.head = nn.Dense(self.num_outputs)

    def features(self, x: jax.Array) -> jax.Array:
        """Features averaged over the image: [B, H, W, C] to [B, F]."""
        small = self.stem == "small" or (self.stem == "auto" and max(x.shape[1:3]) <= _SMALL_SIZE)
        if small:
            x = self.stem_norm(self.small_stem(x))
        else:
            x = max_pool(self.stem_norm(self.imagenet_stem(x)), 3, 2)
        for block in self.blocks:
            x = block(x)
        return widen(x).mean((1, 2))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits: [B, H, W, C] to [B, num_outputs]."""
        return self.head(self.features(x))


def _conv(features: int, kernel: int, stride: int, dtype: Dtype) -> Conv:
    # Padding by half the kernel on both sides keeps a stride-2 layer centred, as 'SAME' does not.
    return Conv(
        features, kernel, stride, kernel // 2, use_bias=False, kernel_init=_he_normal, dtype=dtype
    )
