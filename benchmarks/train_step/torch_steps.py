"""The training steps in PyTorch, as a PyTorch user would write them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.train_step import (
    ours,
    rows,
    torch_dcgan,
    torch_resnet,
    torch_resnet_gan,
    torch_translator,
)
from benchmarks.train_step.torch_layers import advance
from benchmarks.train_step.torch_sides import (
    AdversarialSide,
    Manner,
    Side,
    penalty,
    round_products,
    update,
    widen,
)

__all__ = ["FAMILIES", "ClassifierSide", "GanSide", "Manner", "Side", "build", "round_products"]

FAMILIES = {"dcgan": torch_dcgan, "resnet": torch_resnet_gan}


def build(work: ours.Work, manner: Manner) -> Side:
    """PyTorch's side of a row, from the same initial weights."""
    # It compiles a function eight times at most, then runs it eagerly; all rows share functions.
    torch.compiler.reset()
    if work.row.kind in rows.GANS:
        return GanSide(work, manner)
    if work.row.kind in rows.TRANSLATORS:
        return torch_translator.TranslatorSide(work, manner)
    return ClassifierSide(work, manner)


class GanSide(AdversarialSide):
    """Twin of `gan.steps.train_step`, without augmentation, for labelled images."""

    def __init__(self, work: ours.Work, manner: Manner):
        family = FAMILIES[work.settings.model]
        super().__init__(
            work,
            manner,
            family.Generator(work.spec.generator),
            family.Discriminator(work.spec.discriminator),
        )
        self.penalised = work.spec.penalty == "gp"
        self.loss = _LOSSES[work.spec.loss]
        self.z_dim = work.spec.generator.z_dim

    def take(self, draws: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
        """The next step, from our random numbers of `ours.draws` or from new ones."""
        draws = self._draw() if draws is None else self.given(draws)
        d_losses, penalties = [], []
        for index in range(self.spec.n_critic):
            d_loss, penalised = self._discriminator_update(
                *self.part(index), draws["d_latents"][index], draws["mix"][index]
            )
            d_losses.append(d_loss)
            penalties.append(penalised)

        _, classes = self.part(self.spec.n_critic - 1)
        with self.manner.autocast():
            logits = self.d(self.g(draws["g_latents"], classes), classes)
        g_loss = self.loss[1](widen(logits))
        update(self.g_adam, self.g_params, g_loss)
        self.follow()
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
        d_loss = self.loss[0](*map(widen, logits))
        total, penalised = d_loss, d_loss.new_zeros(())
        if self.penalised:

            def judge(images: torch.Tensor) -> torch.Tensor:
                with self.manner.autocast():
                    return widen(self.discriminator(images, labels))

            penalised = penalty(judge, real, widen(fake), mix)
            total = d_loss + self.spec.penalty_weight * penalised
        update(self.d_adam, self.d_params, total)
        advance(self.discriminator)
        return d_loss.detach(), penalised.detach()

    def _draw(self) -> dict[str, Any]:
        device, updates = self.manner.device, self.spec.n_critic
        return {
            "d_latents": torch.randn(updates, self.size, self.z_dim, device=device),
            "mix": torch.rand(updates, self.size, 1, 1, 1, device=device),
            "g_latents": torch.randn(self.size, self.z_dim, device=device),
        }


class ClassifierSide(Side):
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
        loss = functional.cross_entropy(widen(logits), self.labels)
        update(self.adam, self.params, loss)
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
