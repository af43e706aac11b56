"""Images from seeds: every image is a function of its own seed and label only."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan.state import Params

# Rounding may depend on the batch size, so every image is made in a batch of this many: an image
# made again on its own has the same bits as in the pool.
BLOCK = 64


def latents(seeds: jax.Array, z_dim: int) -> jax.Array:
    """Standard normal latents.

    Args:
        seeds: [B] uint32.
        z_dim: length of a latent.

    Returns:
        [B, z_dim] float32; each row depends on its own seed only.
    """
    return jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), (z_dim,)))(seeds)


def generate(
    generator: nn.Module, params: Params, seeds: jax.Array, labels: jax.Array
) -> jax.Array:
    """Images that any seed and label give again, bit for bit, however many are asked for.

    Args:
        generator: the generator module.
        params: its parameters, usually `GanState.ema_params`.
        seeds: [B] uint32.
        labels: [B] int32 classes.

    Returns:
        [B, H, W, C] in [-1, 1].
    """
    count = len(seeds)
    padding = (0, -count % BLOCK)
    seeds = jnp.pad(jnp.asarray(seeds, jnp.uint32), padding)
    labels = jnp.pad(jnp.asarray(labels, jnp.int32), padding)
    blocks = [
        _generate_block(generator, params, seeds[i : i + BLOCK], labels[i : i + BLOCK])
        for i in range(0, count, BLOCK)
    ]
    return jnp.concatenate(blocks)[:count]


@functools.partial(jax.jit, static_argnums=0)
def _generate_block(
    generator: nn.Module, params: Params, seeds: jax.Array, labels: jax.Array
) -> jax.Array:
    z = latents(seeds, generator.z_dim)
    return generator.apply({"params": params}, z, labels)
