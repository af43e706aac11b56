"""What the training steps in PyTorch share: how they run, networks, optimisers and averages."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from benchmarks.train_step import ours


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


class Side:
    """One of our steps, written for PyTorch.

    Attributes:
        manner: how PyTorch runs.
        penalised: whether there is a gradient penalty.
    """

    manner: Manner
    penalised: ClassVar[bool] = False

    def take(self, draws: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
        """The next step, from our random numbers of `ours.draws` or from new ones."""
        raise NotImplementedError

    def wait(self) -> None:
        """Until all steps are done."""
        if self.manner.device == "cuda":
            torch.cuda.synchronize()


class AdversarialSide(Side):
    """Two networks that play against each other, and the average of the generator's weights.

    Args:
        work: the row's work; its batch holds the images of all updates.
        manner: how PyTorch runs.
        generator: twin of ours, not yet with our weights.
        discriminator: likewise.
    """

    def __init__(
        self, work: ours.Work, manner: Manner, generator: nn.Module, discriminator: nn.Module
    ):
        self.spec, self.manner = work.spec, manner
        self.generator, self.discriminator = generator, discriminator
        manner.place(generator, work).from_jax(work.state.g_params)
        manner.place(discriminator, work).from_jax(work.state.d_params)
        self.g, self.d = manner.run(generator), manner.run(discriminator)
        self.average = list(copy.deepcopy(generator).parameters())
        self.g_params = list(generator.parameters())
        self.d_params = list(discriminator.parameters())
        options = {"betas": (work.settings.b1, work.settings.b2), "fused": True}
        self.g_adam = torch.optim.Adam(self.g_params, work.settings.learning_rate, **options)
        self.d_adam = torch.optim.Adam(self.d_params, work.settings.learning_rate, **options)
        self.images = manner.images(work.batch["image"])
        self.labels = torch.tensor(np.asarray(work.batch["label"]), device=manner.device).long()
        self.size = work.row.batch
        self.steps = 0

    def part(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of an update: every n_critic-th row, as ours."""
        rows = slice(index, None, self.spec.n_critic)
        return self.images[rows], self.labels[rows]

    def follow(self) -> None:
        """Moves the average after the generator's update, as `gan.steps.update_ema` does."""
        decay = min(self.spec.ema_decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.g_params, 1 - decay)
        self.steps += 1

    def given(self, draws: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Our random numbers on the device."""
        device = self.manner.device
        return {name: torch.tensor(values, device=device) for name, values in draws.items()}


def penalty(
    judge: Callable[[torch.Tensor], torch.Tensor],
    real: torch.Tensor,
    fake: torch.Tensor,
    mix: torch.Tensor,
) -> torch.Tensor:
    """WGAN-GP's, twin of `gan.penalties.gradient_penalty`.

    Args:
        judge: images to logits; not compiled, as `torch.compile` cannot differentiate twice.
        real: images [B, C, H, W].
        fake: likewise.
        mix: share of the fakes [B, 1, 1, 1].
    """
    mixed = (real + mix * (fake - real)).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(mixed).sum(), mixed, create_graph=True)
    norms = torch.sqrt(gradient.square().sum((1, 2, 3)) + 1e-12)
    return (norms - 1).square().mean()


def widen(values: torch.Tensor) -> torch.Tensor:
    """Autocast's results in float32; float64 stays."""
    return values.float() if values.dtype == torch.bfloat16 else values


def update(adam: torch.optim.Optimizer, params: list[nn.Parameter], loss: torch.Tensor) -> None:
    """One step of the optimiser; gradients are taken for these parameters only.

    `backward` stores each gradient in its parameter's memory layout, which `fused` relies on.
    """
    adam.zero_grad()
    loss.backward(inputs=params)
    adam.step()
