"""Images from seeds: every image is a function of its own seed and label only."""

import functools

import flax.linen as nn
import jax

from gan.state import Params


def latents(seeds: jax.Array, z_dim: int) -> jax.Array:
    """Standard normal latents.

    Args:
        seeds: [B] uint32.
        z_dim: length of a latent.

    Returns:
        [B, z_dim] float32; each row depends on its own seed only.
    """
    return jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), (z_dim,)))(seeds)


@functools.partial(jax.jit, static_argnums=0)
def generate(
    generator: nn.Module, params: Params, seeds: jax.Array, labels: jax.Array
) -> jax.Array:
    """Images that any seed and label give again, whatever else is in the batch.

    Args:
        generator: the generator module.
        params: its parameters, usually `GanState.ema_params`.
        seeds: [B] uint32.
        labels: [B] int32 classes.

    Returns:
        [B, H, W, C] in [-1, 1].
    """
    return generator.apply({"params": params}, latents(seeds, generator.z_dim), labels)
