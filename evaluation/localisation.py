"""Where is the disease? Maps of change against masks of lesions.

A map is made binary, its connected components are candidates, and a lesion is found when the
centroid of a candidate lies in it (US 11,164,021). Components are connected along diagonals too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score

from evaluation import statistics

LEAST_AREA = 10  # places; candidates must have more
RATES = (0.5, 1.0, 2.0)  # false positives per image at which sensitivity is told


def two_means(image: np.ndarray, colours: int = 2, rounds: int = 100) -> np.ndarray:
    """Quantises a map to so many colours by k-means, and keeps the brightest.

    Lloyd's algorithm in one dimension, from centres at equal distances between the map's lowest and
    highest value, until no centre moves. Each map is taken for itself: whatever is brightest in a
    healthy image becomes a candidate too.

    Args:
      image: [*S].
      colours: k.
      rounds: most of them.

    Returns:
      bool [*S].
    """
    values = np.asarray(image, np.float64)
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, bool)
    centres = np.linspace(low, high, colours)
    for _ in range(rounds):
        members = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
        moved = np.array(
            [
                values[members == k].mean() if (members == k).any() else centres[k]
                for k in range(colours)
            ]
        )
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values) == colours - 1


@dataclasses.dataclass(frozen=True)
class Findings:
    """What candidates found in N images with L lesions in all.

    Attributes:
      lesions: int [N], lesions of each image.
      hit_image: int [H], image of each lesion found, H <= L.
      hit_score: float [H], score of its best candidate.
      false_image: int [F], image of each candidate in no lesion.
      false_score: float [F], its score.
    """

    lesions: np.ndarray
    hit_image: np.ndarray
    hit_score: np.ndarray
    false_image: np.ndarray
    false_score: np.ndarray


def candidates(binary: np.ndarray, least_area: int = LEAST_AREA) -> tuple[np.ndarray, int]:
    """Connected components of a binary map [*S] with more places than `least_area`.

    Returns:
      Their numbers from 1 on, int [*S], 0 elsewhere; and how many there are.
    """
    parts, count = ndimage.label(binary, np.ones((3,) * binary.ndim, bool))
    large = np.bincount(parts.ravel(), minlength=count + 1) > least_area
    large[0] = False
    return np.where(large, np.cumsum(large), 0)[parts], int(large.sum())


def find(
    maps: np.ndarray, binary: np.ndarray, masks: np.ndarray, least_area: int = LEAST_AREA
) -> Findings:
    """Holds candidates against lesions.

    The score of a candidate is the largest value of the map in it. Further candidates in a lesion
    that is found are neither hits nor false.

    Args:
      maps: [N, *S].
      binary: bool, the same shape: where a map is thought to show disease.
      masks: bool, the same shape; each connected component is a lesion.
      least_area: candidates have more places than this.
    """
    everywhere = np.ones((3,) * (maps.ndim - 1), bool)
    lesions, hits, false = np.zeros(len(maps), int), [], []
    for i, (values, mark, mask) in enumerate(zip(maps, binary, masks, strict=True)):
        truth, lesions[i] = ndimage.label(mask, everywhere)
        parts, count = candidates(mark, least_area)
        best: dict[int, float] = {}
        for number in range(1, count + 1):
            inside = parts == number
            centre = tuple(np.rint(np.argwhere(inside).mean(0)).astype(int))
            value, lesion = float(values[inside].max()), int(truth[centre])
            if lesion:
                best[lesion] = max(value, best.get(lesion, -np.inf))
            else:
                false.append((i, value))
        hits += [(i, value) for value in best.values()]
    hit, wrong = (np.array(found, float).reshape(-1, 2) for found in (hits, false))
    return Findings(lesions, hit[:, 0].astype(int), hit[:, 1], wrong[:, 0].astype(int), wrong[:, 1])


def froc(found: Findings, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The free-response curve: candidates accepted from the highest score down.

    Args:
      found: of `find`.
      weights: [R, N], how often each image counts in each of R resamples; None: each once.

    Returns:
      False positives per image and sensitivity, [R, T] each; T thresholds, the first above all
      scores, where both are 0.
    """
    weights = np.ones((1, len(found.lesions))) if weights is None else np.asarray(weights, float)
    score = np.concatenate([found.hit_score, found.false_score])
    image = np.concatenate([found.hit_image, found.false_image])
    is_hit = np.arange(len(score)) < len(found.hit_score)
    order = np.argsort(-score, kind="stable")
    score, events, is_hit = score[order], weights[:, image[order]], is_hit[order]
    # Candidates of one score are accepted together.
    last = np.append(score[1:] != score[:-1], True)[: len(score)]
    start = np.zeros((len(weights), 1))
    total = (weights @ found.lesions)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = np.cumsum(events * is_hit, 1)[:, last] / total
        rate = np.cumsum(events * ~is_hit, 1)[:, last] / weights.sum(1)[:, None]
    return np.hstack([start, rate]), np.hstack([start, sensitivity])


def sensitivity_at(
    found: Findings,
    rates: Sequence[float] = RATES,
    groups: np.ndarray | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[float, dict[str, object]]:
    """The highest sensitivity with no more than so many false positives per image.

    Args:
      found: of `find`.
      rates: false positives per image.
      groups: [N], e.g. patients, whose images the bootstrap draws together; None: each on its own.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      Rate -> 'mean' and 'ci95'.
    """
    rng = np.random.default_rng(seed)
    drawn = statistics.draws(groups, len(found.lesions), resamples, rng)
    weights = np.concatenate([np.ones((1, len(found.lesions))), drawn])
    false, sensitivity = froc(found, weights)
    best = {rate: np.where(false <= rate, sensitivity, 0).max(1) for rate in rates}
    return {rate: statistics.interval(value[0], value[1:]) for rate, value in best.items()}


def choose_threshold(
    maps: np.ndarray, masks: np.ndarray, candidates: int = 20, least_area: int = LEAST_AREA
) -> float:
    """The one threshold that makes these maps binary best; not those it is tested on.

    Best is the largest mean sensitivity at `RATES`, and among equals the largest Dice. Tried are
    quantiles of all values, from 80 to 99.9 %, at equal steps of the logarithm of what lies above.
    """
    above = np.geomspace(0.2, 0.001, candidates)
    tried = np.unique(np.quantile(maps, 1 - above))

    def merit(threshold: float) -> tuple[float, float]:
        binary = maps > threshold
        false, sensitivity = froc(find(maps, binary, masks, least_area))
        found = float(np.mean([sensitivity[false <= rate].max() for rate in RATES]))
        return found, dice(binary, masks)

    return float(max(tried, key=merit))


def pixel_ap(maps: np.ndarray, masks: np.ndarray) -> float:
    """Average precision of every place of all maps [N, *S] as a guess of the masks, bool."""
    return float(average_precision_score(np.ravel(masks), np.ravel(maps)))


def dice(binary: np.ndarray, masks: np.ndarray) -> float:
    """2 |A n B| / (|A| + |B|), the mean over images with a lesion, both bool [N, *S]."""
    flat, truth = (np.asarray(a).reshape(len(binary), -1) for a in (binary, masks))
    some = truth.any(1)
    flat, truth = flat[some], truth[some]
    return float(np.mean(2 * (flat & truth).sum(1) / (flat.sum(1) + truth.sum(1))))
