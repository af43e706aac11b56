"""Grad-CAM: where a classifier sees what it says (Selvaraju et al. 2017, arXiv:1610.02391)."""

from typing import Any

import jax
import jax.numpy as jnp

from nn.resnet import ResNet


def heat(model: ResNet, params: Any, images: jax.Array, label: int) -> jax.Array:
    """The heat map of one class.

    A channel's features weigh by the mean over their places of the gradient of the class's logit
    (equation 1), and the sum of all channels is cut off below 0 (equation 2), then enlarged to the
    image bilinearly. It is not scaled to its own range, as for being shown: maps of different
    images must compare.

    Args:
      model: the classifier.
      params: of it.
      images: [B, H, W, C] in [-1, 1].
      label: of the class.

    Returns:
      [B, H, W], 0 or more.
    """
    places = model.apply({"params": params}, images, method="places")

    def logit(places: jax.Array) -> jax.Array:
        return model.apply({"params": params}, places, method="judge")[:, label].sum()

    weights = jax.grad(logit)(places).mean((1, 2))
    found = jax.nn.relu(jnp.einsum("bpqf,bf->bpq", places, weights))
    return jax.image.resize(found, images.shape[:3], "bilinear")
