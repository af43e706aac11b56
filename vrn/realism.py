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


def knn_strangeness(images: Described, real_train: Described, k: int = 3) -> np.ndarray:
    """Mean distance [N] to the k nearest real training images of the same class.

    Features are taken as they come, as is usual: they share one unit, and those the network makes
    much of tell classes apart. Classes with fewer than k images use all they have.
    """
    strangeness = np.empty(len(images))
    for label in np.unique(images.labels):
        rows = images.labels == label
        reals = real_train.features[real_train.labels == label]
        if not len(reals):
            raise ValueError(f"There is no real training image of class {label} to compare with.")
        distances, _ = neighbours.nearest(images.features[rows], reals, k=min(k, len(reals)))
        strangeness[rows] = distances.mean(1)
    return strangeness


def inconsistency(images: Described) -> np.ndarray:
    """Surprise -log p(label | image) [N], in nats, of a classifier trained on real images."""
    prob = images.probs[np.arange(len(images)), images.labels]
    return -np.log(np.maximum(prob.astype(np.float64), 1e-12))


def p_values(strangeness: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Conformal p-values [N] of strangeness [N] >= 0 against that of n held-out reals [n].

    The conformal p-value, (1 + #{calibration >= s}) / (n + 1), is a staircase. Here the 1 becomes a
    ramp from 1 to 0 between neighbouring calibration values (and, beyond the strangest, its ratio
    to s), so that images are ranked within a step too: the values lie at most 1 / (n + 1) below the
    staircase, and are uniform for real images as those of the randomised form are.
    """
    knots, count = np.sort(calibration), len(calibration)
    place = np.searchsorted(knots, strangeness, side="left")
    beyond = place == count
    upper = knots[np.minimum(place, count - 1)]
    lower = np.where(place > 0, knots[place - 1], 0.0)
    # One of these two is used for each image; the other may divide by zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        within = np.where(upper > lower, (upper - strangeness) / (upper - lower), 0.0)
        ramp = np.where(beyond, upper / strangeness, within)
    return (count - place + ramp) / (count + 1)


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
