"""What detectors learn by: each a mean over rows, of a model, its parameters and the rows.

Rows are arrays [B, ...]: 'image' [B, *S, C] in [-1, 1], 'key' [B], and of segmentation 'mask' bool
[B, *S].
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

Metrics = dict[str, jax.Array]
Rows = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """E|AE(x) - x|, of a model images -> images."""

    def __call__(self, model: nn.Module, params: Any, rows: Rows) -> tuple[jax.Array, Metrics]:
        """The loss, and it alone as a metric."""
        loss = jnp.abs(model.apply({"params": params}, rows["image"]) - rows["image"]).mean()
        return loss, {"loss": loss}


@dataclasses.dataclass(frozen=True)
class Variational:
    """The negative evidence lower bound (Kingma and Welling 2014, equation 3), for each number.

    Of numbers whose density about the reconstruction is Laplace's of scale b it is, times b and but
    for a constant, E|x' - x| + b KL / D, with D numbers in an image. KL is that of the latent
    distribution from the standard normal one (appendix B there).

    Attributes:
      scale: b; the larger, the less of an image goes through the latent vector.
    """

    scale: float

    def __call__(self, model: nn.Module, params: Any, rows: Rows) -> tuple[jax.Array, Metrics]:
        """The loss, with metrics 'loss', 'reconstruction' (mean distance) and 'kl' (nats)."""
        x = rows["image"]
        made, (mean, log_variance) = model.apply({"params": params}, x, rows["key"])
        reconstruction = jnp.abs(made - x).mean()
        terms = jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance
        kl = terms.sum(-1).mean() / 2
        loss = reconstruction + self.scale * kl / math.prod(x.shape[1:])
        return loss, {"loss": loss, "reconstruction": reconstruction, "kl": kl}


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """Cross-entropy of every place, and Dice of every image (Isensee et al. 2021, nnU-Net).

    Dice is 1 - (2 sum p m + 1) / (sum p + sum m + 1) with probabilities p and mask m: without it
    small lesions weigh next to nothing.
    """

    def __call__(self, model: nn.Module, params: Any, rows: Rows) -> tuple[jax.Array, Metrics]:
        """The sum of the two, with metrics 'loss', 'cross_entropy' and 'dice'."""
        logits = model.apply({"params": params}, rows["image"])
        mask = rows["mask"].astype(logits.dtype)
        cross_entropy = optax.sigmoid_binary_cross_entropy(logits, mask).mean()
        places = tuple(range(1, logits.ndim))
        p = jax.nn.sigmoid(logits)
        both, either = (p * mask).sum(places), p.sum(places) + mask.sum(places)
        dice = (1 - (2 * both + 1) / (either + 1)).mean()
        loss = cross_entropy + dice
        return loss, {"loss": loss, "cross_entropy": cross_entropy, "dice": dice}
