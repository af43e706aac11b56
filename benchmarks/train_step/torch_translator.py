"""Twins of `gan.models.translator` and of its training step in PyTorch."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.train_step import ours
from benchmarks.train_step.torch_layers import copy, copy_conv, copy_norm
from benchmarks.train_step.torch_sides import AdversarialSide, Manner, penalty, update, widen
from gan.models import translator


def _norm(channels: int) -> nn.InstanceNorm2d:
    """What the published programs have; like ours, it knows one image at a time."""
    return nn.InstanceNorm2d(channels, affine=True)


class _Block(nn.Module):
    """A residual block of the translator."""

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False) for _ in range(2)
        )
        self.norms = nn.ModuleList(_norm(channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norms[0](self.convs[0](x)))
        return x + self.norms[1](self.convs[1](inner))


class Translator(nn.Module):
    """Twin of `gan.models.translator.Translator` with the published output, tanh(x + d).

    Args:
        twin: the network.
        channels: of the images.
        code_size: of the domains' codes.
    """

    def __init__(self, twin: translator.Translator, channels: int, code_size: int):
        super().__init__()
        width = twin.width
        self.from_image = nn.Conv2d(channels + code_size, width, 7, 1, 3, bias=False)
        self.downs = nn.ModuleList(
            nn.Conv2d(k * width, 2 * k * width, 4, 2, 1, bias=False) for k in (1, 2)
        )
        self.blocks = nn.ModuleList(_Block(4 * width) for _ in range(twin.blocks))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(2 * k * width, k * width, 4, 2, 1, bias=False) for k in (2, 1)
        )
        self.to_image = nn.Conv2d(width, channels, 7, 1, 3, bias=False)
        # Of what comes before the blocks, and after them.
        self.norms_down = nn.ModuleList(_norm(k * width) for k in (1, 2, 4))
        self.norms_up = nn.ModuleList(_norm(k * width) for k in (2, 1))

    def forward(self, x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] and codes [B, K] to images [B, C, H, W]."""
        planes = codes[:, :, None, None].expand(-1, -1, *x.shape[2:])
        h = torch.cat([x, planes.to(x.dtype)], 1)
        for conv, norm in zip([self.from_image, *self.downs], self.norms_down, strict=True):
            h = functional.relu(norm(conv(h)))
        for block in self.blocks:
            h = block(h)
        for up, norm in zip(self.ups, self.norms_up, strict=True):
            h = functional.relu(norm(up(h)))
        return torch.tanh(x + widen(self.to_image(h)))

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the parameters of the twin."""
        convs = [conv for block in self.blocks for conv in block.convs]
        norms = [norm for block in self.blocks for norm in block.norms]
        for index, conv in enumerate([*self.downs, *convs]):
            copy_conv(conv, params[f"Conv_{index}"])
        for index, up in enumerate(self.ups):
            copy_conv(up, params[f"ConvTranspose_{index}"])
        for index, norm in enumerate([*self.norms_down, *norms, *self.norms_up]):
            copy_norm(norm, params[f"GroupNorm_{index}"])
        copy_conv(self.from_image, params["from_image"])
        copy_conv(self.to_image, params["to_image"])


class Discriminator(nn.Module):
    """Twin of `gan.models.translator.Discriminator`.

    Args:
        twin: the network.
        channels: of the images.
        size: their height and width.
    """

    def __init__(self, twin: translator.Discriminator, channels: int, size: int):
        super().__init__()
        halvings = min(translator.HALVINGS, size.bit_length() - 1)
        outputs = [twin.width * 2**index for index in range(halvings)]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 4, 2, 1) for i, o in zip([channels, *outputs], outputs, strict=False)
        )
        self.realness = nn.Conv2d(outputs[-1], 1, 3, 1, 1, bias=False)
        self.domain = nn.Conv2d(outputs[-1], twin.code_size, size >> halvings, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [B, C, H, W] to realness [B, *P] and domain logits [B, K]."""
        for conv in self.convs:
            x = functional.leaky_relu(conv(x), 0.01)
        return self.realness(x)[:, 0], self.domain(x)[:, :, 0, 0]

    def from_jax(self, params: dict[str, Any]) -> None:
        """Copies the parameters of the twin."""
        for index, conv in enumerate(self.convs):
            copy_conv(conv, params[f"Conv_{index}"])
        copy_conv(self.realness, params["realness"])
        height, width = self.domain.kernel_size
        kernel = np.asarray(params["domain"]["kernel"]).reshape(height, width, -1)
        kernel = kernel.reshape(height, width, self.domain.in_channels, -1)
        copy(self.domain.weight, kernel.transpose(3, 2, 0, 1))


class TranslatorSide(AdversarialSide):
    """Twin of `gan.translation.steps.train_step`.

    For two domains that one bit tells apart, and without same-domain fakes for the discriminator,
    as the published programs have it. Like ours it puts several translations into one pass.
    """

    penalised = True

    def __init__(self, work: ours.Work, manner: Manner):
        channels, code_size = work.batch["image"].shape[3], work.spec.domains.code_size
        super().__init__(
            work,
            manner,
            Translator(work.spec.translator, channels, code_size),
            Discriminator(work.spec.discriminator, channels, work.row.size),
        )
        codes = np.asarray(work.spec.domains.code(work.spec.domains.of(work.batch["label"])))
        self.codes = torch.tensor(codes, device=manner.device, dtype=self.images.dtype)

    def take(self, draws: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
        """The next step, from our random numbers of `ours.draws` or from new ones."""
        draws = self._draw() if draws is None else self.given(draws)
        updates = self.spec.n_critic
        each = [
            self._discriminator_update(index, draws["d_order"][index], draws["mix"][index])
            for index in range(updates)
        ]
        names = ("d_loss", "d_domain", "penalty")
        found = {
            name: torch.stack(values).mean()
            for name, values in zip(names, zip(*each, strict=True), strict=True)
        }
        g_loss = self._translator_loss(updates - 1, draws["g_order"])
        update(self.g_adam, self.g_params, g_loss)
        self.follow()
        return found | {"g_loss": g_loss.detach()}

    def _discriminator_update(
        self, index: int, order: torch.Tensor, mix: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        weights = self.spec.weights
        x, own = self._part(index)
        with self.manner.autocast():
            with torch.no_grad():
                fake = self.g(x, own[order])
            realness, domain = self.d(torch.cat([x, fake]))
        real, of_fake = widen(realness).chunk(2)
        d_loss = of_fake.mean() - real.mean()
        d_domain = _domain_loss(widen(domain)[: len(x)], own)

        def judge(images: torch.Tensor) -> torch.Tensor:
            with self.manner.autocast():
                return widen(self.discriminator(images)[0])

        penalised = penalty(judge, x, fake, mix)
        total = d_loss + weights.penalty * penalised + weights.domain * d_domain
        update(self.d_adam, self.d_params, total)
        return d_loss.detach(), d_domain.detach(), penalised.detach()

    def _translator_loss(self, index: int, order: torch.Tensor) -> torch.Tensor:
        weights = self.spec.weights
        x, own = self._part(index)
        codes, twice = torch.cat([own[order], own]), torch.cat([x, x])
        with self.manner.autocast():
            fakes = self.g(twice, codes)
            cycles = self.g(fakes, torch.cat([own, own]))
            realness, domain = self.d(fakes)
        # Means over both translations, of which the loss is the sum.
        adversarial = -widen(realness).mean()
        cycle = (cycles - twice).abs().mean()
        terms = adversarial + weights.cycle * cycle
        terms = terms + weights.domain * _domain_loss(widen(domain), codes)
        return 2 * terms + weights.identity * (fakes[len(x) :] - x).abs().mean()

    def _part(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of an update, and the codes of their domains."""
        return self.part(index)[0], self.codes[index :: self.spec.n_critic]

    def _draw(self) -> dict[str, torch.Tensor]:
        device, updates = self.manner.device, self.spec.n_critic
        order = lambda: torch.randperm(self.size, device=device)  # noqa: E731
        return {
            "d_order": torch.stack([order() for _ in range(updates)]),
            "mix": torch.rand(updates, self.size, 1, 1, 1, device=device),
            "g_order": order(),
        }


def _domain_loss(logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, summed over the bits of a code and averaged over images."""
    found = functional.binary_cross_entropy_with_logits(logits, codes, reduction="none")
    return found.sum(1).mean()
