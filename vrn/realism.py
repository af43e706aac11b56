"""How strange a synthetic image is beside the real ones, without any label of real-likeness.

A strangeness is any number that grows as an image looks less like the real images of its class.
It turns into a p-value by comparison with real images the feature network never saw: the share of
held-out reals that are at least as strange (Vovk, Gammerman & Shafer, Algorithmic Learning in a
Random World, 2005, ch. 2). So "real-like at 5 %" means: at least 5 % of true images are stranger.
"""

from __future__ import annotations

import numpy as np

from evaluation import neighbours
from vrn.features import Described


def scale_of(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [F] of features [N, F]; constant features get deviation 1."""
    std = reference.std(0)
    return reference.mean(0), np.where(std > 1e-6 * max(float(std.max()), 1e-12), std, 1.0)


def knn_strangeness(images: Described, real_train: Described, k: int = 3) -> np.ndarray:
    """Mean distance [N] to the k nearest real training images of the same class.

    Features are standardised on the real training images first, so that no feature rules by its
    unit. Classes with fewer than k images use all they have.
    """
    mean, std = scale_of(real_train.features)
    strangeness = np.empty(len(images))
    for label in np.unique(images.labels):
        rows = images.labels == label
        reals = real_train.features[real_train.labels == label]
        if not len(reals):
            raise ValueError(f"There is no real training image of class {label} to compare with.")
        distances, _ = neighbours.nearest(
            (images.features[rows] - mean) / std, (reals - mean) / std, k=min(k, len(reals))
        )
        strangeness[rows] = distances.mean(1)
    return strangeness


def inconsistency(images: Described) -> np.ndarray:
    """Surprise -log p(label | image) [N], in nats, of a classifier trained on real images."""
    prob = images.probs[np.arange(len(images)), images.labels]
    return -np.log(np.maximum(prob.astype(np.float64), 1e-12))


def p_values(strangeness: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Conformal p-values [N] of strangeness [N] against that of n held-out reals [n].

    The conformal p-value, (1 + #{calibration >= s}) / (n + 1), is a staircase. Here each step is a
    ramp (by the place between the two neighbouring calibration values, and beyond the strangest by
    the ratio to it), so that images are ranked also within a step: the values lie at most 1/(n+1)
    below the staircase, and are uniform for real images as those of the randomised form are.
    """
    knots = np.sort(calibration)
    count = len(knots)
    smallest = 1.0 / (count + 1)
    # Equal knots share one place: np.interp needs increasing ones, and ties count as "at least".
    knots, first = np.unique(knots, return_index=True)
    heights = (count - first) * smallest
    beyond = smallest * knots[-1] / np.maximum(strangeness, np.finfo(float).tiny)
    within = np.interp(
        strangeness, np.concatenate([[min(0.0, knots[0])], knots]), np.concatenate([[1.0], heights])
    )
    return np.where(strangeness > knots[-1], np.minimum(beyond, heights[-1]), within)


def class_p_values(
    strangeness: np.ndarray,
    labels: np.ndarray,
    held_out: np.ndarray,
    held_out_labels: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """`p_values` [N] of each image against the held-out reals of its own class.

    n reals cannot give a p-value below 1/(n+1). A class with too few of them to ever fall below
    `threshold` is therefore compared with the held-out reals of all classes, each strangeness
    divided by its own class's median.
    """
    medians = {
        label: max(float(np.median(held_out[held_out_labels == label])), np.finfo(float).tiny)
        for label in np.unique(held_out_labels)
    }
    overall = max(float(np.median(held_out)), np.finfo(float).tiny)
    relative = held_out / np.array([medians[label] for label in held_out_labels])
    result = np.empty(len(strangeness))
    for label in np.unique(labels):
        rows, own = labels == label, held_out[held_out_labels == label]
        if (len(own) + 1) * threshold > 1:
            result[rows] = p_values(strangeness[rows], own)
        else:
            result[rows] = p_values(strangeness[rows] / medians.get(label, overall), relative)
    return result
