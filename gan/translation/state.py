"""What is fixed while a translator is trained, and the state it begins with."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gan.state import GanState
from gan.translation.domains import Domains
from gan.translation.losses import CRITICS, PUBLISHED, Weights
from nn.gradient import PLAIN, Gradient

# How the domain to translate to is drawn: as published, the domains of the batch in another order,
# so that many are the image's own; or uniformly among all others.
TARGETS = ("permuted", "other")


@dataclasses.dataclass(frozen=True)
class TranslatorSpec:
    """The fixed part of a training: hashable, so that a jitted step takes it as a static argument.

    Attributes:
        translator: module (images [B, *S, C], codes [B, K]) -> images.
        discriminator: module images -> realness [B, *P] and domain logits [B, K].
        g_tx: optimiser of the translator.
        d_tx: optimiser of the discriminator.
        domains: what is translated between.
        fixed_point: whether the same-domain terms are there; without them it is StarGAN.
        critic: name in `gan.translation.losses.CRITICS`; without the fixed point all are one.
        weights: factors of the terms.
        targets: one of `TARGETS`.
        n_critic: discriminator updates per update of the translator.
        ema_decay: of the translator's moving average; shorter at the start, see `gan.steps`.
        gradient: micro-batches, rematerialisation and devices.
    """

    translator: nn.Module
    discriminator: nn.Module
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    domains: Domains
    fixed_point: bool = True
    critic: str = "code"
    weights: Weights = PUBLISHED
    targets: str = "permuted"
    n_critic: int = 5
    ema_decay: float = 0.999
    gradient: Gradient = PLAIN

    def __post_init__(self):
        if self.critic not in CRITICS:
            raise ValueError(f"unknown critic {self.critic!r}: give one of {tuple(CRITICS)}")
        if self.targets not in TARGETS:
            raise ValueError(f"unknown targets {self.targets!r}: give one of {TARGETS}")
        if self.n_critic < 1:
            raise ValueError(f"n_critic is {self.n_critic}: give at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: give a number in [0, 1)")

    @property
    def judges_same(self) -> bool:
        """Whether the discriminator is shown same-domain translations."""
        return self.fixed_point and CRITICS[self.critic].same > 0


@functools.partial(jax.jit, static_argnums=(0, 1))
def init_state(spec: TranslatorSpec, image_shape: tuple[int, ...], key: jax.Array) -> GanState:
    """Fresh parameters and optimiser states for images of `image_shape` (*S, C)."""
    g_key, d_key = jax.random.split(key)
    images = jnp.zeros((1, *image_shape))
    codes = jnp.zeros((1, spec.domains.code_size))
    g_params = spec.translator.init(g_key, images, codes)["params"]
    d_params = spec.discriminator.init(d_key, images)["params"]
    return GanState(
        step=jnp.zeros((), jnp.int32),
        g_params=g_params,
        d_params=d_params,
        ema_params=jax.tree.map(jnp.copy, g_params),
        g_opt=spec.g_tx.init(g_params),
        d_opt=spec.d_tx.init(d_params),
    )
