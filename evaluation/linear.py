"""The linear autoencoder: what normal images have in common, and what of an image is not that.

With linear layers and squared error the best autoencoder of a given width is the projection on the
first principal components (Baldi and Hornik 1989), which is found without training.
"""

from __future__ import annotations

import numpy as np


class LinearAutoencoder:
    """Principal components of normal images.

    Args:
      normal: [N, *S, C], from which it learns.
      most: components that are kept, of those that there are.
    """

    def __init__(self, normal: np.ndarray, most: int):
        flat = np.asarray(normal, np.float64).reshape(len(normal), -1)
        self.mean = flat.mean(0)
        centred = flat - self.mean
        # The N x N products are smaller than those of pixels.
        values, vectors = np.linalg.eigh(centred @ centred.T)
        order = np.argsort(-values)[:most]
        order = order[values[order] > 1e-9 * values.max()]  # the others are rounding
        components = vectors[:, order].T @ centred
        self.components = components / np.linalg.norm(components, axis=1, keepdims=True)

    def reconstruct(self, images: np.ndarray, width: int) -> np.ndarray:
        """Images [N, *S, C] made again of the first `width` components, float32."""
        flat = np.asarray(images, np.float64).reshape(len(images), -1) - self.mean
        first = self.components[:width]
        return (flat @ first.T @ first + self.mean).reshape(images.shape).astype(np.float32)
