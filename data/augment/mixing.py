"""Transforms that need another image of the batch: histogram matching and mixup."""

import numpy as np
from scipy import special

from data.augment.streams import Uniform, one_each

MIXUP = 0.2  # alpha of the Beta distribution at strength 1
LANDMARKS = np.linspace(0, 1, 11)  # deciles


def other_rows(u: np.ndarray) -> np.ndarray:
    """For every row of a batch [B] another one, int64 [B], from uniform numbers [B] in [0, 1).

    The only row of a batch of one gets itself.
    """
    total = len(u)
    ahead = 1 + np.floor(u * (total - 1)).astype(np.int64)
    return (np.arange(total) + ahead) % total


def mixup_weights(u: np.ndarray, strength: float) -> np.ndarray:
    """Share of every row's own image, float32 [B] in [0.5, 1], from uniform float64 numbers [B].

    Zhang et al. 2018 (ICLR) draw it from Beta(alpha, alpha). The larger of it and its complement is
    as good, as partners are drawn at random, and leaves images as they are where the strength, to
    which alpha is proportional, goes to 0.
    """
    if strength == 0:
        return np.ones(len(u), np.float32)
    share = special.betaincinv(strength * MIXUP, strength * MIXUP, u)
    return np.maximum(share, 1 - share).astype(np.float32)


def mix(images: np.ndarray, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``weights`` [B] of ``images`` [B, ...] plus the rest of ``others`` [B, ...]."""
    return images + (1 - weights).reshape(one_each(images)) * (others - images)


def match_histogram(
    images: np.ndarray, references: np.ndarray, rng: Uniform, strength: float
) -> np.ndarray:
    """Goes a random part of the way to the histogram of another image, for instance a scanner's.

    Args:
        images: [B, H, W, C] or [B, D, H, W, C] float32.
        references: of the same shape, or at least with the same B and C.
        rng: for the part of the way, uniform from 0 to the strength and at most 1.
        strength: 0 = identity.
    """
    part = rng.random(one_each(images), np.float32) * np.float32(min(strength, 1))
    return images + part * (match_quantiles(images, references) - images)


def match_quantiles(images: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Maps the deciles of every channel of image i to those of ``references[i]``.

    Piecewise linear between them, as in Nyúl, Udupa & Zhang 2000 (IEEE TMI 19(2)), who map to a
    standard histogram. Where several deciles have one value, such as an empty background, it goes
    to the mean of those of the reference.

    Args:
        images: [B, ..., C] float32.
        references: [B, ..., C] float32.
    """
    source, target = _quantiles(images), _quantiles(references)
    out = np.empty_like(images)
    for i, c in np.ndindex(source.shape[:2]):
        values, place = np.unique(source[i, c], return_inverse=True)
        wanted = np.bincount(place, target[i, c]) / np.bincount(place)
        out[i, ..., c] = np.interp(images[i, ..., c], values, wanted)
    return out


def _quantiles(images: np.ndarray) -> np.ndarray:
    """Landmarks float64 [B, C, 11]; sorting all is many times faster than `numpy.quantile`."""
    flat = images.reshape(len(images), -1, images.shape[-1])
    ordered = np.sort(flat.transpose(0, 2, 1), axis=-1)
    position = LANDMARKS * (flat.shape[1] - 1)
    low = np.floor(position).astype(np.intp)
    high = np.ceil(position).astype(np.intp)
    return ordered[..., low] + (position - low) * (ordered[..., high] - ordered[..., low])
