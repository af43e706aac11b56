"""Arms compared: means, intervals, and differences paired by seed and test image.

Two things would differ if the experiment were done again: the seed and the test images. The
bootstrap therefore resamples both (Owen 2007, The pigeonhole bootstrap, Ann. Appl. Stat. 1), with
the same resamples for all arms, so that differences between arms are paired in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation import classification

Outcome = tuple[np.ndarray, np.ndarray]  # probs [N, K] and labels int [N]


def summarise(
    arms: Mapping[str, Sequence[Outcome]],
    *,
    reference: str = "vrn",
    groups: np.ndarray | None = None,
    seed_groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Means and 95 % percentile intervals of every metric of every arm.

    Few seeds make the part of the interval that is due to seeds too narrow by about
    sqrt((S - 1) / S); with one seed it shows the test images alone.

    Args:
      arms: name -> one (probs [N, K], labels [N]) per seed, the same seeds in the same order and
        the same test images for every arm.
      reference: the arm whose difference to each other arm is wanted.
      groups: [N], e.g. patients; images of a group are drawn together. None: each on its own.
      seed_groups: [S], e.g. the generator each seed's images come from; likewise drawn together.
      resamples: R.
      seed: of the bootstrap.

    Returns:
      {'arms': {arm: {metric: {'mean', 'ci95': [lo, hi], 'seeds': [...]}}},
       'paired': {'<reference>-<arm>': {metric: {'mean', 'ci95': [lo, hi]}}}}; no 'paired' entries
      when the reference is not among the arms. A number that does not exist (the recall of a class
      without test images) is None, as JSON knows no NaN.

    Raises:
      ValueError: arms differ in seeds or test images.
    """
    labels, num_seeds = _common(arms)
    rng = np.random.default_rng(seed)
    image_weights = draws(groups, len(labels), resamples, rng)
    seed_weights = draws(seed_groups, num_seeds, resamples, rng)
    seed_weights /= seed_weights.sum(1, keepdims=True)
    points: dict[str, dict[str, np.ndarray]] = {}  # arm -> metric -> [S]
    spreads: dict[str, dict[str, np.ndarray]] = {}  # arm -> metric -> [R]
    # The first row weighs every image once: the plain metrics.
    weights = np.concatenate([np.ones((1, len(labels))), image_weights])
    for arm, outcomes in arms.items():
        values = [classification.metrics_weighted(probs, labels, weights) for probs, _ in outcomes]
        stacked = {name: np.stack([value[name] for value in values], 1) for name in values[0]}
        points[arm] = {name: value[0] for name, value in stacked.items()}
        spreads[arm] = {
            name: np.einsum("rs,rs->r", seed_weights, value[1:]) for name, value in stacked.items()
        }
    result: dict[str, Any] = {"arms": {}, "paired": {}}
    for arm in arms:
        result["arms"][arm] = {
            name: {
                **interval(value.mean(), spreads[arm][name]),
                "seeds": [_number(one) for one in value],
            }
            for name, value in points[arm].items()
        }
        if arm != reference and reference in arms:
            result["paired"][f"{reference}-{arm}"] = {
                name: interval(
                    (points[reference][name] - value).mean(),
                    spreads[reference][name] - spreads[arm][name],
                )
                for name, value in points[arm].items()
            }
    return result


def _common(arms: Mapping[str, Sequence[Outcome]]) -> tuple[np.ndarray, int]:
    """The test labels [N] and number of seeds that all arms share."""
    if not arms or not all(arms.values()):
        raise ValueError("Every arm needs at least one seed.")
    first = next(iter(arms.values()))
    labels = np.asarray(first[0][1])
    for arm, outcomes in arms.items():
        if len(outcomes) != len(first):
            raise ValueError(f"Arm {arm!r} has {len(outcomes)} seeds and others {len(first)}.")
        if not all(np.array_equal(labels, other) for _, other in outcomes):
            raise ValueError(f"Arm {arm!r} was tested on other images than the first arm.")
    return labels, len(first)


def draws(
    groups: np.ndarray | None, count: int, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """How often each of N images, or seeds, is drawn in each resample, float64 [R, N].

    Those of a group are drawn together.
    """
    if groups is None:
        member = np.arange(count)
    elif len(groups) != count:
        raise ValueError(f"{len(groups)} groups were given for {count} test images or seeds.")
    else:
        member = np.unique(groups, return_inverse=True)[1]
    size = int(member.max()) + 1
    return rng.multinomial(size, np.full(size, 1 / size), resamples)[:, member].astype(np.float64)


def interval(mean: float, spread: np.ndarray) -> dict[str, Any]:
    """A number with the 95 % percentile interval of its resamples [R]: 'mean' and 'ci95'."""
    # A resample may hold no image of a rare class, and then has no recall of it.
    spread = spread[np.isfinite(spread)]
    bounds = np.percentile(spread, [2.5, 97.5]) if len(spread) else [np.nan, np.nan]
    return {"mean": _number(mean), "ci95": [_number(bound) for bound in bounds]}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
