"""Gradient penalties of the discriminator, to be added to its loss times a weight.

`d_fn` maps images [B, H, W, C], or volumes, to logits [B], each a function of its own image only,
so that the gradient of their sum is every image's own gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

PENALTIES = ("none", "r1", "gp")


def _square_norms(d_fn: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Squared length of each logit's gradient over all pixels of its image: [B, H, W, C] to [B]."""
    gradients = jax.grad(lambda x: d_fn(x).sum())(images)
    return jnp.square(gradients).sum(tuple(range(1, images.ndim)))


def r1(d_fn: Callable[[jax.Array], jax.Array], real: jax.Array) -> jax.Array:
    """R1 penalty: the mean over images of ||grad D(x)||^2 / 2, squares summed over all pixels.

    Mescheder et al. 2018, equation 9, with its half: the weight is their gamma.

    Args:
        d_fn: images [B, H, W, C] to logits [B].
        real: real images [B, H, W, C].

    Returns:
        A scalar.
    """
    return 0.5 * _square_norms(d_fn, real).mean()


def gradient_penalty(
    d_fn: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    mix: jax.Array,
) -> jax.Array:
    """WGAN-GP: the mean over images of (||grad D(x')|| - 1)^2 between real and fake images.

    Gulrajani et al. 2017, equation 3 and algorithm 1: x' = x + e (G - x) with e uniform in [0, 1]
    for each image, the norm over all its pixels. Their weight is 10.

    Args:
        d_fn: images [B, H, W, C] to logits [B].
        real: real images [B, H, W, C].
        fake: generated images [B, H, W, C].
        mix: the e of every image, [B, 1, 1, 1], with as many axes as the images.

    Returns:
        A scalar.
    """
    squares = _square_norms(d_fn, real + mix * (fake - real))
    # The tiny constant keeps the square root's derivative finite where the gradient vanishes.
    return jnp.square(jnp.sqrt(squares + 1e-12) - 1).mean()
