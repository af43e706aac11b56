"""What training a GAN changes (`GanState`) and what it keeps fixed (`GanSpec`)."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from gan.augment import POLICIES
from gan.losses import LOSSES
from gan.penalties import PENALTIES
from nn.gradient import PLAIN, Gradient

Params = Any


@flax.struct.dataclass
class GanState:
    """Everything a step updates; arrays only.

    Attributes:
        step: [] int32, updates of the generator, or of the translator in its place, done.
        g_params: parameters of the generator or translator.
        d_params: parameters of the discriminator, with its vectors of `nn.spectral` if it has any.
        ema_params: moving average of `g_params`; sample from these.
        g_opt: optimiser state of the generator or translator.
        d_opt: optimiser state of the discriminator.
    """

    step: jax.Array
    g_params: Params
    d_params: Params
    ema_params: Params
    g_opt: optax.OptState
    d_opt: optax.OptState


@dataclasses.dataclass(frozen=True)
class GanSpec:
    """The fixed part of a training: hashable, so that a jitted step takes it as a static argument.

    Attributes:
        generator: module (z [B, z_dim], labels [B]) -> images [B, H, W, C].
        discriminator: module (images, labels [B], -1 unknown) -> logits [B].
        g_tx: optimiser of the generator.
        d_tx: optimiser of the discriminator.
        loss: name in `gan.losses.LOSSES`.
        penalty: 'none', 'r1' or 'gp' (see `gan.penalties`).
        penalty_weight: factor of the penalty in the discriminator's loss.
        n_critic: discriminator updates per generator update.
        augment_policy: names for `gan.augment.augment`, () for none.
        augment_fill: value that enters at edges and holes.
        ema_decay: of the generator's moving average; shorter at the start, see `gan.steps`.
        gradient: micro-batches, rematerialisation and devices.
    """

    generator: nn.Module
    discriminator: nn.Module
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    loss: str = "non_saturating"
    penalty: str = "none"
    penalty_weight: float = 1.0
    n_critic: int = 1
    augment_policy: tuple[str, ...] = ()
    augment_fill: float = 0.0
    ema_decay: float = 0.999
    gradient: Gradient = PLAIN

    def __post_init__(self):
        check("loss", self.loss, LOSSES)
        check("penalty", self.penalty, PENALTIES)
        for name in self.augment_policy:
            check("augmentation", name, POLICIES)
        check_numbers(self.n_critic, self.ema_decay)


def check(what: str, name: str, known: Iterable[str]) -> None:
    """Raises `ValueError` if a name of a specification is none of those known."""
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}: give one of {tuple(known)}")


def check_numbers(n_critic: int, ema_decay: float) -> None:
    """Raises `ValueError` if there are no discriminator updates, or no such average."""
    if n_critic < 1:
        raise ValueError(f"n_critic is {n_critic}: give at least 1")
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay is {ema_decay}: give a number in [0, 1)")


def begin(
    g_params: Params,
    d_params: Params,
    g_tx: optax.GradientTransformation,
    d_tx: optax.GradientTransformation,
) -> GanState:
    """The state before the first step.

    The moving average starts as a copy with buffers of its own, so that the state can be donated.
    """
    return GanState(
        step=jnp.zeros((), jnp.int32),
        g_params=g_params,
        d_params=d_params,
        ema_params=jax.tree.map(jnp.copy, g_params),
        g_opt=g_tx.init(g_params),
        d_opt=d_tx.init(d_params),
    )


def init_state(spec: GanSpec, key: jax.Array) -> GanState:
    """Fresh parameters and optimiser states.

    Args:
        spec: models and optimisers.
        key: random key.

    Returns:
        The state at step 0.
    """
    return jax.jit(_init, static_argnums=0)(spec, key)


def _init(spec: GanSpec, key: jax.Array) -> GanState:
    g_key, d_key = jax.random.split(key)
    labels = jnp.zeros((1,), jnp.int32)
    z = jnp.zeros((1, spec.generator.z_dim))
    images, g_variables = spec.generator.init_with_output(g_key, z, labels)
    g_params = g_variables["params"]
    d_params = spec.discriminator.init(d_key, images, labels)["params"]
    return begin(g_params, d_params, spec.g_tx, spec.d_tx)
