"""Trained translators in use: translations, and maps of what they changed."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gan.state import Params

# Rounding may depend on the batch size, so every image is translated in a batch of this many: on
# its own it becomes the same, bit for bit, as among others.
BLOCK = 32


def translate(
    translator: nn.Module, params: Params, images: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    """G(x, c) of any number of images.

    Args:
        translator: the module.
        params: its parameters, usually `GanState.ema_params`.
        images: [B, *S, C] in [-1, 1].
        codes: [B, K], of the domains to translate to.

    Returns:
        float32 [B, *S, C] in [-1, 1].
    """
    made = np.empty(images.shape, np.float32)
    for start in range(0, len(images), BLOCK):
        part, code = (np.asarray(a[start : start + BLOCK], np.float32) for a in (images, codes))
        missing = [(0, BLOCK - len(part))]
        part, code = (np.pad(a, missing + [(0, 0)] * (a.ndim - 1)) for a in (part, code))
        block = _translate_block(translator, params, part, code)
        made[start : start + BLOCK] = block[: len(images) - start]
    return made


def difference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map |y - x|, the mean over channels: [B, *S, C] twice to float32 [B, *S] in [0, 2]."""
    return np.abs(np.asarray(y, np.float32) - np.asarray(x, np.float32)).mean(-1)


@functools.partial(jax.jit, static_argnums=0)
def _translate_block(
    translator: nn.Module, params: Params, images: jax.Array, codes: jax.Array
) -> jax.Array:
    return translator.apply({"params": params}, images, jnp.asarray(codes))
