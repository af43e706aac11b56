"""Layers of the PyTorch twins, NCHW, and how they take over our parameters.

Every twin has `from_jax(params)`, which copies our parameters, or anything of their shapes such as
an optimiser's moments.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nn.norm import group_count


def copy(parameter: torch.Tensor, values: Any) -> None:
    """Overwrites a parameter or buffer."""
    with torch.no_grad():
        parameter.copy_(torch.tensor(np.asarray(values)))


def copy_conv(layer: nn.Conv2d | nn.ConvTranspose2d, params: dict[str, Any]) -> None:
    """Copies the kernel [KH, KW, I, O], the bias and the spectral vector, as far as there are any.

    The kernel of our transposed convolution is [KH, KW, O, I], so one order serves both.
    """
    copy(layer.weight, np.asarray(params["kernel"]).transpose(3, 2, 0, 1))
    if "bias" in params:
        copy(layer.bias, params["bias"])
    if "kernel_spectral" in params:
        copy(layer.vector, params["kernel_spectral"])


def channels_first(rows: Any) -> np.ndarray:
    """Reorders each row from 4x4 places of C channels to C channels of 4x4 places."""
    rows = np.asarray(rows)
    return rows.reshape(len(rows), 4, 4, -1).transpose(0, 3, 1, 2).reshape(len(rows), -1)


class ClassGroupNorm(nn.Module):
    """Twin of `nn.norm.ClassGroupNorm`, for images that all have a label."""

    def __init__(self, num_classes: int, channels: int):
        super().__init__()
        self.groups = group_count(channels)
        self.scale = nn.Embedding(num_classes, channels)
        self.shift = nn.Embedding(num_classes, channels)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Normalises x [B, C, H, W] for labels [B]."""
        scale, shift = (layer(labels)[:, :, None, None] for layer in (self.scale, self.shift))
        # Autocast normalises in float32; like ours, the layer gives back the type it was given.
        return (functional.group_norm(x, self.groups) * scale + shift).to(x.dtype)

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the parameters of the twin."""
        copy(self.scale.weight, params["scale"])
        copy(self.shift.weight, params["shift"])


class GroupNorm(nn.GroupNorm):
    """Twin of `nn.norm.GroupNorm`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises x [B, C, H, W] and gives it back in its type."""
        return super().forward(x).to(x.dtype)


def group_norm(channels: int) -> GroupNorm:
    """The layer for so many channels."""
    return GroupNorm(group_count(channels), channels)


def copy_norm(layer: nn.GroupNorm, params: dict[str, Any]) -> None:
    """Copies the parameters of `nn.norm.GroupNorm`."""
    copy(layer.weight, params["scale"])
    copy(layer.bias, params["shift"])


def normalised(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Twin of `nn.spectral.normalised`, for a matrix [O, N] and its left vector [O]."""
    right, left = iterate(matrix, vector)
    return matrix / (left @ matrix @ right)


@torch.no_grad()
def iterate(matrix: torch.Tensor, vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One power iteration: the right vector [N], and the next left vector [O]."""
    right = functional.normalize(vector @ matrix, dim=0)
    return right, functional.normalize(matrix @ right, dim=0)


class SpectralConv(nn.Conv2d):
    """Convolution with a spectrally normalised kernel.

    The vector stands still in the forward pass, so that all uses within an update share it;
    `advance` renews it.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("vector", torch.ones(self.out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] to features."""
        weight = normalised(self.weight.flatten(1), self.vector).view_as(self.weight)
        return self._conv_forward(x, weight, self.bias)

    def advance(self) -> None:
        """Takes one power iteration."""
        self.vector.copy_(iterate(self.weight.flatten(1), self.vector)[1])


class SpectralHead(nn.Module):
    """The projection head of `gan.models.resnet_gan.Discriminator`, normalised or not."""

    def __init__(self, num_classes: int, features: int, spectral: bool):
        super().__init__()
        self.spectral = spectral
        self.weight = nn.Parameter(torch.empty(1, features))
        self.bias = nn.Parameter(torch.empty(()))
        self.embedding = nn.Parameter(torch.empty(num_classes, features))
        self.register_buffer("weight_vector", torch.ones(1))
        self.register_buffer("embedding_vector", torch.ones(features))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Features [B, F] and labels [B] to logits [B]."""
        weight, embedding = self.weight, self.embedding
        if self.spectral:
            weight = normalised(weight, self.weight_vector)
            embedding = normalised(embedding.T, self.embedding_vector).T
        return (features * (weight + embedding[labels])).sum(1) + self.bias

    def advance(self) -> None:
        """Takes one power iteration of both."""
        if self.spectral:
            self.weight_vector.copy_(iterate(self.weight, self.weight_vector)[1])
            self.embedding_vector.copy_(iterate(self.embedding.T, self.embedding_vector)[1])

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the head's part of the discriminator's parameters."""
        copy(self.weight, np.asarray(params["realness"]).T)
        copy(self.bias, params["realness_bias"])
        copy(self.embedding, params["class_embedding"])
        if self.spectral:
            copy(self.weight_vector, params["realness_spectral"])
            copy(self.embedding_vector, params["class_embedding_spectral"])


def advance(module: nn.Module) -> None:
    """Takes one power iteration of every spectral vector in a network."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, SpectralConv | SpectralHead):
                layer.advance()
