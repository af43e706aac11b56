"""The training steps in PyTorch, as a PyTorch user would write them."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.train_step import ours, rows, torch_dcgan, torch_resnet, torch_resnet_gan
from benchmarks.train_step.torch_layers import advance

FAMILIES = {"dcgan": torch_dcgan, "resnet": torch_resnet_gan}


@dataclasses.dataclass(frozen=True)
class Manner:
    """How PyTorch runs.

    Attributes:
        device: 'cpu' or 'cuda'.
        channels_last: memory layout of images and kernels.
        compiled: whether the networks go through `torch.compile`.
        bfloat16: whether the networks run under autocast.
    """

    device: str = "cpu"
    channels_last: bool = False
    compiled: bool = False
    bfloat16: bool = False

    def place(self, module: nn.Module, work: ours.Work) -> nn.Module:
        """A network on the device, in the layout, in the type of the work's images."""
        dtype = getattr(torch, work.batch["image"].dtype.name)
        return module.to(self.device, dtype, memory_format=self._format)

    def images(self, values: Any) -> torch.Tensor:
        """Images [B, H, W, C] as [B, C, H, W] on the device, in the layout."""
        images = torch.tensor(np.asarray(values)).permute(0, 3, 1, 2)
        return images.to(self.device).contiguous(memory_format=self._format)

    def run(self, module: nn.Module) -> Callable:
        """The network as it is called."""
        return torch.compile(module) if self.compiled else module

    def autocast(self) -> torch.autocast:
        """The context of every forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16)

    @property
    def _format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


def round_products(allowed: bool) -> None:
    """Whether an accelerator may round float32 factors (TF32), as JAX does by default."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision("high" if allowed else "highest")


def build(work: ours.Work, manner: Manner) -> "GanSide | ClassifierSide":
    """PyTorch's side of a row, from the same initial weights."""
    # It compiles a function eight times at most, then runs it eagerly; all rows share functions.
    torch.compiler.reset()
    return (GanSide if work.row.kind in rows.GANS else ClassifierSide)(work, manner)


class _Side:
    manner: Manner

    def wait(self) -> None:
        """Until all steps are done."""
        if self.manner.device == "cuda":
            torch.cuda.synchronize()


class GanSide(_Side):
    """Twin of `gan.steps.train_step`, without augmentation, for labelled images."""

    def __init__(self, work: ours.Work, manner: Manner):
        self.spec, self.manner = work.spec, manner
        family, settings = FAMILIES[work.settings.model], work.settings
        self.generator = family.Generator(work.spec.generator)
        self.discriminator = family.Discriminator(work.spec.discriminator)
        manner.place(self.generator, work).from_jax(work.state.g_params)
        manner.place(self.discriminator, work).from_jax(work.state.d_params)
        self.g, self.d = manner.run(self.generator), manner.run(self.discriminator)
        self.average = list(copy.deepcopy(self.generator).parameters())
        self.g_params = list(self.generator.parameters())
        self.d_params = list(self.discriminator.parameters())
        options = {"betas": (settings.b1, settings.b2), "fused": True}
        self.g_adam = torch.optim.Adam(self.g_params, settings.learning_rate, **options)
        self.d_adam = torch.optim.Adam(self.d_params, settings.learning_rate, **options)
        self.loss = _LOSSES[work.spec.loss]
        self.images = manner.images(work.batch["image"])
        self.labels = torch.tensor(np.asarray(work.batch["label"]), device=manner.device).long()
        self.size, self.z_dim = work.row.batch, work.spec.generator.z_dim
        self.steps = 0

    def take(self, draws: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
        """The next step, from our random numbers of `ours.draws` or from new ones."""
        draws = self._draw() if draws is None else self._given(draws)
        images, labels, updates = self.images, self.labels, self.spec.n_critic
        d_losses, penalties = [], []
        for index in range(updates):
            part = slice(index, None, updates)  # every n_critic-th row, as ours
            d_loss, penalty = self._discriminator_update(
                images[part], labels[part], draws["d_latents"][index], draws["mix"][index]
            )
            d_losses.append(d_loss)
            penalties.append(penalty)

        classes = labels[updates - 1 :: updates]
        with self.manner.autocast():
            logits = self.d(self.g(draws["g_latents"], classes), classes)
        g_loss = self.loss[1](_widen(logits))
        _update(self.g_adam, self.g_params, g_loss)
        decay = min(self.spec.ema_decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.g_params, 1 - decay)
        self.steps += 1
        return {
            "d_loss": torch.stack(d_losses).mean(),
            "penalty": torch.stack(penalties).mean(),
            "g_loss": g_loss.detach(),
        }

    def _discriminator_update(
        self,
        real: torch.Tensor,
        labels: torch.Tensor,
        latents: torch.Tensor,
        mix: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with self.manner.autocast():
            with torch.no_grad():
                fake = self.g(latents, labels)
            logits = [self.d(x, labels) for x in (real, fake)]
        d_loss = self.loss[0](*map(_widen, logits))
        total, penalty = d_loss, d_loss.new_zeros(())
        if self.spec.penalty == "gp":
            penalty = self._penalty(real, _widen(fake), labels, mix)
            total = d_loss + self.spec.penalty_weight * penalty
        _update(self.d_adam, self.d_params, total)
        advance(self.discriminator)
        return d_loss.detach(), penalty.detach()

    def _penalty(
        self, real: torch.Tensor, fake: torch.Tensor, labels: torch.Tensor, mix: torch.Tensor
    ) -> torch.Tensor:
        """WGAN-GP's; never compiled, as `torch.compile` cannot differentiate twice."""
        mixed = (real + mix * (fake - real)).requires_grad_()
        with self.manner.autocast():
            logits = self.discriminator(mixed, labels)
        (gradient,) = torch.autograd.grad(_widen(logits).sum(), mixed, create_graph=True)
        norms = torch.sqrt(gradient.square().sum((1, 2, 3)) + 1e-12)
        return (norms - 1).square().mean()

    def _draw(self) -> dict[str, Any]:
        device, updates = self.manner.device, self.spec.n_critic
        return {
            "d_latents": torch.randn(updates, self.size, self.z_dim, device=device),
            "mix": torch.rand(updates, self.size, 1, 1, 1, device=device),
            "g_latents": torch.randn(self.size, self.z_dim, device=device),
        }

    def _given(self, draws: dict[str, Any]) -> dict[str, Any]:
        device = self.manner.device
        return {
            name: None if values is None else torch.tensor(values, device=device)
            for name, values in draws.items()
        }


class ClassifierSide(_Side):
    """Twin of `vrn.classifier.train_step`."""

    def __init__(self, work: ours.Work, manner: Manner):
        self.manner = manner
        size = work.row.size // work.settings.reduction
        self.network = torch_resnet.ResNet(work.spec.model, rows.CHANNELS, size)
        manner.place(self.network, work).from_jax(work.state.params)
        self.net = manner.run(self.network)
        self.params = list(self.network.parameters())
        self.adam = torch.optim.AdamW(
            self.params, ours.CLASSIFIER_RATE, weight_decay=ours.WEIGHT_DECAY, fused=True
        )
        self.images = manner.images(work.batch["image"])
        self.labels = torch.tensor(np.asarray(work.batch["label"]), device=manner.device).long()

    def take(self, draws: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
        """The next step; there is nothing to draw."""
        del draws
        with self.manner.autocast():
            logits = self.net(self.images)
        loss = functional.cross_entropy(_widen(logits), self.labels)
        _update(self.adam, self.params, loss)
        return {"loss": loss.detach()}


# Name to (discriminator's loss of real and fake logits, generator's loss of fake logits).
_LOSSES: dict[str, tuple[Callable, Callable]] = {
    "non_saturating": (
        lambda real, fake: functional.softplus(-real).mean() + functional.softplus(fake).mean(),
        lambda fake: functional.softplus(-fake).mean(),
    ),
    "hinge": (
        lambda real, fake: functional.relu(1 - real).mean() + functional.relu(1 + fake).mean(),
        lambda fake: -fake.mean(),
    ),
    "wasserstein": (lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()),
}


def _widen(values: torch.Tensor) -> torch.Tensor:
    """Autocast's results in float32; float64 stays."""
    return values.float() if values.dtype == torch.bfloat16 else values


def _update(adam: torch.optim.Optimizer, params: list[nn.Parameter], loss: torch.Tensor) -> None:
    """One step of the optimiser; gradients are taken for these parameters only.

    `backward` stores each gradient in its parameter's memory layout, which `fused` relies on.
    """
    adam.zero_grad()
    loss.backward(inputs=params)
    adam.step()
