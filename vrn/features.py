"""The feature space every annotator and filter shares.

One small network, trained on the real training split only and then frozen, describes real and
synthetic images alike; no arm gets a better pair of eyes than another.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data.records import Records
from vrn import classifier


@dataclasses.dataclass(frozen=True)
class Described:
    """Images as annotators and filters see them.

    Attributes:
      features: float32 [N, F].
      probs: float32 [N, K], class probabilities by the same network.
      labels: int [N], the class each image has or, if synthetic, was asked to have.
    """

    features: np.ndarray
    probs: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        if not len(self.features) == len(self.probs) == len(self.labels):
            raise ValueError(
                f"Features, probs and labels have {len(self.features)}, {len(self.probs)} and "
                f"{len(self.labels)} rows; they must describe the same images."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: np.ndarray) -> Described:
        """The rows that `index` (indices or a mask) selects."""
        return Described(self.features[index], self.probs[index], self.labels[index])


@functools.partial(jax.jit, static_argnames="spec")
def look(
    params: Any, images: jax.Array, *, spec: classifier.ClassifierSpec
) -> dict[str, jax.Array]:
    """'features' [B, F] and 'probs' [B, K] of images [B, H, W, C] by one network in one pass."""
    # Both calls run the same backbone on the same input: XLA merges them into one.
    return {
        "features": classifier.features(params, images, spec=spec),
        "probs": jax.nn.softmax(classifier.predict(params, images, spec=spec)),
    }


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """A trained network as a fixed map from images to features and class probabilities."""

    spec: classifier.ClassifierSpec
    params: Any
    batch_size: int = 128
    place: Callable[[np.ndarray], Any] = jnp.asarray

    def _apply(self, images: np.ndarray | Records) -> dict[str, np.ndarray]:
        fn = functools.partial(look, spec=self.spec)
        return classifier.in_batches(fn, self.params, images, self.batch_size, self.place)

    def embed(self, images: np.ndarray | Records) -> np.ndarray:
        """Features float32 [N, F] of images [N, H, W, C] or records."""
        return self._apply(images)["features"]

    def probs(self, images: np.ndarray | Records) -> np.ndarray:
        """Class probabilities float32 [N, K] of images [N, H, W, C] or records."""
        return self._apply(images)["probs"]

    def describe(self, images: np.ndarray | Records, labels: np.ndarray | None = None) -> Described:
        """Features and probabilities in one pass; labels default to those of the records."""
        labels = images.labels if labels is None else labels
        return Described(**self._apply(images), labels=np.asarray(labels))
