"""Images from seeds: every image is a function of its own seed and label only."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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


def quantise(images: jax.Array, dtype: np.dtype | type) -> jax.Array:
    """Stored pixels, the same as those of `data.records.from_unit`, made on the device.

    That function rounds (x + 1) * top / 2 in float64, which accelerators are slow at. float32
    errs by one step at most, which is put right here by comparing x with the two midpoints beside
    the pixel found: x lies above the one between v - 1 and v where top * x > 2 * v - 1 - top.
    top + 1 is a power of two, so no part of (top + 1) * x - (2 * v - 1 - top) > x is rounded where
    the two sides are close.

    Args:
        images: float [B, H, W, C] in [-1, 1]; without NaN.
        dtype: uint8, uint16 or float32, which is only clipped.

    Returns:
        [B, H, W, C] of that type.
    """
    x = jnp.clip(images.astype(jnp.float32), -1, 1)
    if np.dtype(dtype) == np.float32:
        return x
    top = float(np.iinfo(dtype).max)

    def reached(v: jax.Array) -> jax.Array:
        """Whether x rounds to v or more; in a tie, which only 0 makes, the upper pixel is even."""
        return (top + 1) * x - (2 * v - 1 - top) >= x

    near = jnp.round((x + 1) * (top / 2))
    return (near - 1 + reached(near) + reached(near + 1)).astype(dtype)


@functools.partial(jax.jit, static_argnums=0)
def _generate_block(
    generator: nn.Module, params: Params, seeds: jax.Array, labels: jax.Array
) -> jax.Array:
    z = latents(seeds, generator.z_dim)
    return generator.apply({"params": params}, z, labels)
