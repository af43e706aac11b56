"""Experts whose mistakes are known, as labels of the loop."""

import numpy as np

from benchmarks.vrn_truth.pools import Pool
from launch import rng
from vrn import labels
from vrn.annotators import UNKNOWN


def annotate(
    pool: Pool, count: int, *, wrong: float = 0.0, raters: int = 1, seed: int = 0
) -> np.ndarray:
    """What becomes of the word of people about the first images of a pool.

    Args:
        pool: N images.
        count: images that everyone looks at.
        wrong: share of its images that each person gets wrong, sound or not.
        raters: people; each errs about other images.
        seed: of the mistakes.

    Returns:
        int8 [N], as `vrn.labels.resolve`: 1 real-like, 0 not, -1 not annotated.
    """
    ids, sound = pool.records.ids[:count], pool.sound[:count]
    words = []
    for rater in range(raters):
        random = np.random.default_rng(rng.fold(seed, "expert", rater))
        mistaken = np.zeros(count, bool)
        mistaken[random.permutation(count)[: round(wrong * count)]] = True
        words.append(labels.from_scores(ids, f"expert{rater}", sound ^ mistaken, 0.0))
    return labels.resolve(labels.concatenate(*words), pool.records.ids)


def agreed(pool: Pool, count: int, *, wrong: float, seed: int = 0) -> np.ndarray:
    """As `annotate` with two people, but where they disagree nothing is said."""
    both = [
        annotate(pool, count, wrong=wrong, seed=rng.fold(seed, "agreed", rater))
        for rater in range(2)
    ]
    return np.where(both[0] == both[1], both[0], UNKNOWN).astype(np.int8)
