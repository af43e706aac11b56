"""Twin of `nn.resnet.ResNet` in PyTorch."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.train_step.torch_layers import copy, copy_conv, copy_norm, group_norm
from nn import resnet


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class _Block(nn.Module):
    """Twin of `nn.resnet.Block`."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        self.outputs = 4 * width if bottleneck else width
        layers = (
            ((width, 1, 1), (width, 3, stride), (self.outputs, 1, 1))
            if bottleneck
            else ((width, 3, stride), (width, 3, 1))
        )
        before = [inputs, *(features for features, _, _ in layers)]
        self.convs = nn.ModuleList(
            _conv(i, *layer) for i, layer in zip(before, layers, strict=False)
        )
        self.norms = nn.ModuleList(group_norm(features) for features, _, _ in layers)
        self.shortcut = None
        if stride > 1 or inputs != self.outputs:
            self.shortcut = _conv(inputs, self.outputs, 1, stride)
            self.shortcut_norm = group_norm(self.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.shortcut is None else self.shortcut_norm(self.shortcut(x))
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            x = x if index == len(self.convs) - 1 else functional.relu(x)
        return functional.relu(x + shortcut)

    def from_jax(self, params: dict[str, Any]) -> None:
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            copy_conv(conv, params[f"Conv_{index}"])
            copy_norm(norm, params[f"GroupNorm_{index}"])
        if self.shortcut is not None:
            copy_conv(self.shortcut, params[f"Conv_{len(self.convs)}"])
            copy_norm(self.shortcut_norm, params[f"GroupNorm_{len(self.convs)}"])


class ResNet(nn.Module):
    """Twin of `nn.resnet.ResNet` for one of its stems, behind the reduction of the VRN's images.

    Args:
        twin: the network.
        channels: of the images.
        size: pixels per side that the images are reduced to.
    """

    def __init__(self, twin: resnet.ResNet, channels: int, size: int):
        super().__init__()
        self.size, self.stem_name = size, f"{twin.stem}_stem"
        kernel, stride = {"small": (3, 1), "imagenet": (7, 2)}[twin.stem]
        self.stem = _conv(channels, twin.width, kernel, stride)
        self.stem_norm = group_norm(twin.width)
        counts, bottleneck = resnet.STAGES[twin.depth]
        blocks, inputs = [], twin.width
        for stage, count in enumerate(counts):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(_Block(inputs, twin.width * 2**stage, stride, bottleneck))
                inputs = blocks[-1].outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(inputs, twin.num_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] to logits."""
        if x.shape[-1] != self.size:
            x = functional.interpolate(
                x, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
        x = functional.relu(self.stem_norm(self.stem(x)))
        if self.stem_name == "imagenet_stem":
            # Our pool pads below and to the right only.
            x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the parameters of the twin."""
        copy_conv(self.stem, params[self.stem_name])
        copy_norm(self.stem_norm, params["stem_norm"])
        for index, block in enumerate(self.blocks):
            block.from_jax(params[f"blocks_{index}"])
        copy(self.head.weight, np.asarray(params["head"]["kernel"]).T)
        copy(self.head.bias, params["head"]["bias"])
