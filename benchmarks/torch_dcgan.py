"""The networks and the training step of `gan` in PyTorch, for comparison only.

Written as a PyTorch user would: modules, NCHW, autograd, `torch.optim.Adam`. `from_jax` copies our
parameters, so that both sides start from the same numbers.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gan.models import dcgan
from nn.norm import group_count


class ClassGroupNorm(nn.Module):
    """Group normalisation scaled and shifted by class embeddings."""

    def __init__(self, num_classes: int, channels: int):
        super().__init__()
        self.groups = group_count(channels)
        self.scale = nn.Embedding(num_classes, channels)
        self.shift = nn.Embedding(num_classes, channels)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Normalises x [B, C, H, W] for labels [B]."""
        scale, shift = (layer(labels)[:, :, None, None] for layer in (self.scale, self.shift))
        return functional.group_norm(x, self.groups) * scale + shift


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

    def from_jax(self, params: dict) -> None:
        """Copies the parameters of the twin."""
        dense = params["from_latent"]["kernel"]
        dense = dense.reshape(-1, 4, 4, self.widest).transpose(0, 3, 1, 2)
        _copy(self.from_latent.weight, dense.reshape(len(dense), -1).T)
        for index, norm in enumerate(self.norms):
            _copy(norm.scale.weight, params[f"ClassGroupNorm_{index}"]["scale"])
            _copy(norm.shift.weight, params[f"ClassGroupNorm_{index}"]["shift"])
        for index, up in enumerate(self.ups):
            _copy(up.weight, params[f"ConvTranspose_{index}"]["kernel"].transpose(3, 2, 0, 1))
        _copy(self.to_image.weight, params["to_image"]["kernel"].transpose(3, 2, 0, 1))
        _copy(self.to_image.bias, params["to_image"]["bias"])


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

    def from_jax(self, params: dict) -> None:
        """Copies the parameters of the twin."""
        for index, conv in enumerate(self.convs):
            _copy(conv.weight, params[f"Conv_{index}"]["kernel"].transpose(3, 2, 0, 1))
            _copy(conv.bias, params[f"Conv_{index}"]["bias"])
        _copy(self.realness.weight, _channels_first(params["realness"]["kernel"].T))
        _copy(self.realness.bias, params["realness"]["bias"])
        _copy(self.class_embedding.weight, _channels_first(params["class_embedding"]))


def _channels_first(rows: np.ndarray) -> np.ndarray:
    """Reorders each row from 4x4 places of C channels to C channels of 4x4 places."""
    return rows.reshape(len(rows), 4, 4, -1).transpose(0, 3, 1, 2).reshape(len(rows), -1)


def _copy(parameter: nn.Parameter, values: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(np.ascontiguousarray(values)))


class Trainer:
    """The step of `gan.steps` for one critic update, without augmentation.

    Args:
        generator: twin of the generator.
        discriminator: twin of the discriminator.
        penalty_weight: of WGAN-GP's penalty, None for none.
        learning_rate: of both Adam optimisers, with b1 = 0.5.
        ema_decay: of the generator's moving average.
        wrap: applied to both networks, `torch.compile` or nothing.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        *,
        penalty_weight: float | None,
        learning_rate: float,
        ema_decay: float,
        wrap: Callable[[nn.Module], nn.Module] = lambda module: module,
    ):
        self.average = list(copy.deepcopy(generator).parameters())
        self.g_params = list(generator.parameters())
        self.d_params = list(discriminator.parameters())
        self.g_adam = torch.optim.Adam(self.g_params, learning_rate, (0.5, 0.999))
        self.d_adam = torch.optim.Adam(self.d_params, learning_rate, (0.5, 0.999))
        self.generator, self.discriminator = wrap(generator), wrap(discriminator)
        self.penalty_weight, self.ema_decay = penalty_weight, ema_decay
        self.steps = 0

    def step(
        self,
        real: torch.Tensor,
        labels: torch.Tensor,
        d_latents: torch.Tensor,
        mix: torch.Tensor,
        g_latents: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """One update of each network.

        Args:
            real: [B, C, H, W].
            labels: [B] int64.
            d_latents: [B, Z] for the discriminator's update.
            mix: [B, 1, 1, 1] places between real and generated images for the penalty.
            g_latents: [B, Z] for the generator's update.

        Returns:
            'd_loss', 'penalty' and 'g_loss' as in `gan.steps`.
        """
        with torch.no_grad():
            fake = self.generator(d_latents, labels)
        real_logits, fake_logits = (self.discriminator(x, labels) for x in (real, fake))
        d_loss = functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean()
        penalty = torch.zeros(())
        if self.penalty_weight is not None:
            mixed = (real + mix * (fake - real)).requires_grad_()
            logits = self.discriminator(mixed, labels)
            (gradient,) = torch.autograd.grad(logits.sum(), mixed, create_graph=True)
            norms = torch.sqrt(gradient.square().sum((1, 2, 3)) + 1e-12)
            penalty = (norms - 1).square().mean()
        total = d_loss if self.penalty_weight is None else d_loss + self.penalty_weight * penalty
        _update(self.d_adam, self.d_params, total)

        g_loss = functional.softplus(
            -self.discriminator(self.generator(g_latents, labels), labels)
        ).mean()
        _update(self.g_adam, self.g_params, g_loss)
        decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.g_params, 1 - decay)
        self.steps += 1
        return {"d_loss": d_loss.detach(), "penalty": penalty.detach(), "g_loss": g_loss.detach()}


def _update(adam: torch.optim.Adam, params: list[nn.Parameter], loss: torch.Tensor) -> None:
    """One Adam step; gradients are taken for these parameters only."""
    gradients = torch.autograd.grad(loss, params)
    for parameter, gradient in zip(params, gradients, strict=True):
        parameter.grad = gradient
    adam.step()
