"""What is fixed while a translator is trained, and the state it begins with."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gan.state import GanState, begin, check, check_numbers
from gan.translation.domains import Domains
from gan.translation.losses import CRITICS, PUBLISHED, Weights
from nn.gradient import PLAIN, Gradient

# How the domain to translate to is drawn: as published, the domains of the batch in another order,
# so that many are the image's own; or uniformly among all others.
TARGETS = ("permuted", "other")


@dataclasses.dataclass(frozen=True)
class TranslatorSpec:
    """The fixed part of a training; what is not told here is as in `gan.state.GanSpec`.

    Attributes:
        translator: module (images [B, *S, C], codes [B, K]) -> images, in the generator's place.
        discriminator: module images -> realness [B, *P] and domain logits [B, K].
        domains: what is translated between.
        fixed_point: whether the same-domain terms are there; without them it is StarGAN.
        critic: name in `gan.translation.losses.CRITICS`; without the fixed point all are one.
        weights: factors of the terms.
        targets: one of `TARGETS`.
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
        check("critic", self.critic, CRITICS)
        check("targets", self.targets, TARGETS)
        check_numbers(self.n_critic, self.ema_decay)

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
    return begin(g_params, d_params, spec.g_tx, spec.d_tx)
