"""Adversarial losses on the discriminator's logits.

Each is a `GanLoss` of two functions: `discriminator(real_logits [B], fake_logits [B])` and
`generator(fake_logits [B])`, scalars to be minimised.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax


class GanLoss(NamedTuple):
    """A discriminator loss and the generator loss that goes with it."""

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


def _non_saturating_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E[softplus(-D(x))] + E[softplus(D(G(z)))]: Goodfellow et al. 2014, equation 1, in logits."""
    return jax.nn.softplus(-real_logits).mean() + jax.nn.softplus(fake_logits).mean()


def _non_saturating_generator(fake_logits: jax.Array) -> jax.Array:
    """E[softplus(-D(G(z)))]: maximise log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    return jax.nn.softplus(-fake_logits).mean()


def _hinge_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E[relu(1 - D(x))] + E[relu(1 + D(G(z)))]: Miyato et al. 2018, equation 16."""
    return jax.nn.relu(1 - real_logits).mean() + jax.nn.relu(1 + fake_logits).mean()


def _wasserstein_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """E[D(G(z))] - E[D(x)]: Arjovsky et al. 2017, equation 2, negated."""
    return fake_logits.mean() - real_logits.mean()


def _negated_mean(fake_logits: jax.Array) -> jax.Array:
    """-E[D(G(z))], the generator's side of the hinge and Wasserstein losses."""
    return -fake_logits.mean()


LOSSES = {
    "non_saturating": GanLoss(_non_saturating_discriminator, _non_saturating_generator),
    "hinge": GanLoss(_hinge_discriminator, _negated_mean),
    "wasserstein": GanLoss(_wasserstein_discriminator, _negated_mean),
}
