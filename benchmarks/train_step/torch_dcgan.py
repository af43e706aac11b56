"""Twins of `gan.models.dcgan` in PyTorch."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.train_step.torch_layers import ClassGroupNorm, channels_first, copy, copy_conv
from gan.models import dcgan


class Generator(nn.Module):
    """Twin of `gan.models.dcgan.Generator`."""

    def __init__(self, twin: dcgan.Generator):
        super().__init__()
        *finer, widest = dcgan.widths(twin.size, twin.width)
        self.widest = widest
        self.from_latent = nn.Linear(twin.z_dim, 16 * widest, bias=False)
        outputs = finer[::-1]
        inputs = [widest, *outputs]
        self.norms = nn.ModuleList(ClassGroupNorm(twin.num_classes, c) for c in inputs)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False)
            for i, o in zip(inputs, outputs, strict=False)
        )
        self.to_image = nn.ConvTranspose2d(inputs[-1], twin.channels, 4, 2, 1)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Latents [B, Z] and labels [B] to images [B, C, H, W]."""
        x = self.from_latent(z).view(-1, self.widest, 4, 4)
        x = functional.relu(self.norms[0](x, labels))
        for up, norm in zip(self.ups, list(self.norms)[1:], strict=True):
            x = functional.relu(norm(up(x), labels))
        return torch.tanh(self.to_image(x))

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the parameters of the twin."""
        copy(self.from_latent.weight, channels_first(params["from_latent"]["kernel"]).T)
        for index, norm in enumerate(self.norms):
            norm.from_jax(params[f"ClassGroupNorm_{index}"])
        for index, up in enumerate(self.ups):
            copy_conv(up, params[f"ConvTranspose_{index}"])
        copy_conv(self.to_image, params["to_image"])


class Discriminator(nn.Module):
    """Twin of `gan.models.dcgan.Discriminator`, for images that all have a label."""

    def __init__(self, twin: dcgan.Discriminator):
        super().__init__()
        outputs = dcgan.widths(twin.size, twin.width)
        inputs = [twin.channels, *outputs]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 4, 2, 1) for i, o in zip(inputs, outputs, strict=False)
        )
        self.realness = nn.Linear(16 * outputs[-1], 1)
        self.class_embedding = nn.Embedding(twin.num_classes, 16 * outputs[-1])

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] and labels [B] to logits [B]."""
        for conv in self.convs:
            x = functional.leaky_relu(conv(x), 0.2)
        features = x.flatten(1)
        return self.realness(features)[:, 0] + (self.class_embedding(labels) * features).sum(1)

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the parameters of the twin."""
        for index, conv in enumerate(self.convs):
            copy_conv(conv, params[f"Conv_{index}"])
        copy(self.realness.weight, channels_first(np.asarray(params["realness"]["kernel"]).T))
        copy(self.realness.bias, params["realness"]["bias"])
        copy(self.class_embedding.weight, channels_first(params["class_embedding"]))
