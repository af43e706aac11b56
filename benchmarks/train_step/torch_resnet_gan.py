"""Twins of `gan.models.resnet_gan` in PyTorch."""

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.train_step.torch_layers import (
    ClassGroupNorm,
    SpectralConv,
    SpectralHead,
    channels_first,
    copy,
    copy_conv,
    copy_norm,
    group_norm,
)
from gan.models import resnet_gan


def _double(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


class _UpBlock(nn.Module):
    """Twin of `gan.models.resnet_gan.UpBlock`."""

    def __init__(self, inputs: int, outputs: int, num_classes: int):
        super().__init__()
        self.norms = nn.ModuleList(ClassGroupNorm(num_classes, c) for c in (inputs, outputs))
        self.convs = nn.ModuleList(nn.Conv2d(c, outputs, 3, 1, 1) for c in (inputs, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        shortcut = _double(self.shortcut(x))
        x = self.convs[0](_double(functional.relu(self.norms[0](x, labels))))
        return self.convs[1](functional.relu(self.norms[1](x, labels))) + shortcut

    def from_jax(self, params: dict[str, Any]) -> None:
        for index in range(2):
            self.norms[index].from_jax(params[f"ClassGroupNorm_{index}"])
            copy_conv(self.convs[index], params[f"Conv_{index}"])
        copy_conv(self.shortcut, params["shortcut"])


class _DownBlock(nn.Module):
    """Twin of `gan.models.resnet_gan.DownBlock`."""

    def __init__(self, inputs: int, outputs: int, *, halve: bool, first: bool, spectral: bool):
        super().__init__()
        conv = SpectralConv if spectral else nn.Conv2d
        hidden = outputs if first else inputs
        self.halve, self.first = halve, first
        pairs = ((inputs, hidden), (hidden, outputs))
        self.convs = nn.ModuleList(conv(i, o, 3, 1, 1) for i, o in pairs)
        self.shortcut = conv(inputs, outputs, 1) if halve or inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut(functional.avg_pool2d(x, 2) if self.halve else x)
        x = x if self.first else functional.relu(x)
        x = self.convs[1](functional.relu(self.convs[0](x)))
        return (functional.avg_pool2d(x, 2) if self.halve else x) + shortcut

    def from_jax(self, params: dict[str, Any]) -> None:
        for index in range(2):
            copy_conv(self.convs[index], params[f"Conv_{index}"])
        if "shortcut" in params:
            copy_conv(self.shortcut, params["shortcut"])


class Generator(nn.Module):
    """Twin of `gan.models.resnet_gan.Generator`."""

    def __init__(self, twin: resnet_gan.Generator):
        super().__init__()
        widths = [multiple * twin.width for multiple in resnet_gan.UP[twin.size]]
        self.first = widths[0]
        self.from_latent = nn.Linear(twin.z_dim, 16 * self.first)
        self.blocks = nn.ModuleList(
            _UpBlock(i, o, twin.num_classes) for i, o in itertools.pairwise(widths)
        )
        self.last_norm = group_norm(widths[-1])
        self.to_image = nn.Conv2d(widths[-1], twin.channels, 3, 1, 1)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Latents [B, Z] and labels [B] to images [B, C, H, W]."""
        x = self.from_latent(z).view(-1, self.first, 4, 4)
        for block in self.blocks:
            x = block(x, labels)
        return torch.tanh(self.to_image(functional.relu(self.last_norm(x))))

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the parameters of the twin."""
        copy(self.from_latent.weight, channels_first(params["from_latent"]["kernel"]).T)
        copy(self.from_latent.bias, channels_first(params["from_latent"]["bias"][None])[0])
        for index, block in enumerate(self.blocks):
            block.from_jax(params[f"UpBlock_{index}"])
        copy_norm(self.last_norm, params["last_norm"])
        copy_conv(self.to_image, params["to_image"])


class Discriminator(nn.Module):
    """Twin of `gan.models.resnet_gan.Discriminator`, for images that all have a label."""

    def __init__(self, twin: resnet_gan.Discriminator):
        super().__init__()
        halving, plain = resnet_gan.DOWN[twin.size]
        outputs = [multiple * twin.width for multiple in halving + plain]
        inputs = [twin.channels, *outputs]
        self.blocks = nn.ModuleList(
            _DownBlock(i, o, halve=index < len(halving), first=index == 0, spectral=twin.spectral)
            for index, (i, o) in enumerate(zip(inputs, outputs, strict=False))
        )
        self.head = SpectralHead(twin.num_classes, outputs[-1], twin.spectral)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] and labels [B] to logits [B]."""
        for block in self.blocks:
            x = block(x)
        return self.head(functional.relu(x).sum((2, 3)), labels)

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the parameters of the twin."""
        for index, block in enumerate(self.blocks):
            block.from_jax(params[f"DownBlock_{index}"])
        self.head.from_jax(params)
