"""The terms of Fixed-Point GAN's losses (US 11,164,021), to be minimised.

x is an image, c_x its own domain and c_y another; G(x, c_y) is a cross-domain translation and
G(x, c_x) a same-domain one, which ought to be x. D(x) is the mean of the patches' logits. Terms of
the domain are in `gan.translation.domains`, the gradient penalty in `gan.penalties`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Critic(NamedTuple):
    """Weights of the two translations in the discriminator's adversarial loss.

    Attributes:
        cross: of D(G(x, c_y)).
        same: of D(G(x, c_x)); 0 leaves it out.
    """

    cross: float
    same: float


# 'patent' is the formula: the translations weigh two to one, so a constant added to D lowers the
# loss without bound. 'mean' is its average over domains. 'code' is what the authors released.
CRITICS = {"patent": Critic(1.0, 1.0), "mean": Critic(0.5, 0.5), "code": Critic(1.0, 0.0)}


class Weights(NamedTuple):
    """Factors of the terms; those published for CelebA.

    Attributes:
        penalty: lambda_gp.
        domain: lambda_dom.
        cycle: lambda_cyc.
        identity: lambda_id.
    """

    penalty: float = 10.0
    domain: float = 1.0
    cycle: float = 10.0
    identity: float = 10.0


def critic(real: jax.Array, fakes: Sequence[jax.Array], weights: Sequence[float]) -> jax.Array:
    """-E D(x) + sum over c of w_c E D(G(x, c)): -L_adv without its penalty.

    Args:
        real: realness [B, *P] of images.
        fakes: of their translations, [B, *P] each.
        weights: w_c.
    """
    pairs = zip(weights, fakes, strict=True)
    return sum((weight * fake.mean() for weight, fake in pairs), start=-real.mean())


def adversarial(fake: jax.Array) -> jax.Array:
    """-E D(G(x, c)), of realness [B, *P]: the translator's part of L_adv for one c."""
    return -fake.mean()


def distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """E |x - y|, the mean over all numbers of two arrays of images.

    L_cyc for y = G(G(x, c), c_x), and L_id for y = G(x, c_x).
    """
    return jnp.abs(x - y).mean()


PUBLISHED = Weights()
