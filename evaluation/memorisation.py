"""Does a generator copy its training images? Every realism metric rewards it when it does.

All distances are Euclidean, in features or pixels; give both, as copies hide in one of them.
"""

from __future__ import annotations

import numpy as np

from evaluation.neighbours import nearest


def nearest_ratio(
    fakes: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    repeats: int = 10,
    seed: int = 0,
) -> np.ndarray:
    """d(fake, nearest training image) / d(fake, nearest held-out image), float64 [N].

    More images are nearer by mere number, so the larger of the two real sets is thinned at random
    to the size of the smaller, and the ratio averaged (geometrically) over `repeats` thinnings. The
    median is about 1 without memorisation and below 1 with it.

    Args:
      fakes: [N, F].
      train: [M, F].
      held_out: [L, F].
      repeats: thinnings; 1 is enough when M == L.
      seed: of the thinnings.
    """
    rng = np.random.default_rng(seed)
    count = min(len(train), len(held_out))
    repeats = 1 if len(train) == len(held_out) else repeats
    logs = np.zeros(len(fakes))
    tiny = np.finfo(np.float64).tiny
    for _ in range(repeats):
        near, far = (
            nearest(fakes, reals[rng.permutation(len(reals))[:count]])[0][:, 0]
            for reals in (train, held_out)
        )
        # An image equal to one of both sets is no evidence of copying: ratio 1.
        logs += np.log(np.maximum(near, tiny)) - np.log(np.maximum(far, tiny))
    return np.exp(logs / repeats)


def duplicate_threshold(train: np.ndarray, held_out: np.ndarray, quantile: float = 0.01) -> float:
    """The distance below which only `quantile` of new real images come to a training image."""
    return float(np.quantile(nearest(held_out, train)[0][:, 0], quantile))


def authentic(fakes: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Whether each fake is further from its nearest training image than that one from any other.

    Alaa et al. 2022, arXiv 2102.08921, definition of authenticity (their published code takes the
    neighbour's index in the wrong set).

    Returns:
      bool [N] for fakes [N, F] and train [M, F].
    """
    distance, index = nearest(fakes, train)
    own = nearest(train, train, exclude_self=True)[0][:, 0]
    return distance[:, 0] > own[index[:, 0]]


def memorisation(
    fakes: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    suspects: int = 20,
    seed: int = 0,
) -> dict[str, object]:
    """All of the above in numbers, and the pairs to look at.

    Args:
      fakes: [N, ...], flattened like the others.
      train: [M, ...], what the generator saw.
      held_out: [L, ...], what it did not see.
      suspects: how many fakes to name.
      seed: of `nearest_ratio`.

    Returns:
      'ratio_median' (1 wanted); 'duplicate_share' of fakes nearer to a training image than 99 % of
      held-out reals are, and 'duplicate_share_expected' (0.01); 'authentic_share', with
      'authentic_share_held_out', that of held-out reals, to compare with; 'suspects', the fakes
      nearest to a training image, and 'suspects_nearest', which one (lists of indices), with
      'suspects_distance'.
    """
    distance, index = nearest(fakes, train)
    quantile = 0.01
    order = np.argsort(distance[:, 0], kind="stable")[:suspects]
    ratio = nearest_ratio(fakes, train, held_out, seed=seed)
    threshold = duplicate_threshold(train, held_out, quantile)
    return {
        "ratio_median": float(np.median(ratio)),
        "duplicate_share": float(np.mean(distance[:, 0] < threshold)),
        "duplicate_share_expected": quantile,
        "authentic_share": float(np.mean(authentic(fakes, train))),
        "authentic_share_held_out": float(np.mean(authentic(held_out, train))),
        "suspects": order.tolist(),
        "suspects_nearest": index[order, 0].tolist(),
        "suspects_distance": distance[order, 0].tolist(),
    }
