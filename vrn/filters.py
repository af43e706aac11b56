"""Filters: which images of the second pool enter the target dataset.

Every filter gives one score per image, higher = keep, and all keep the same number of each class,
so that what is compared is the choice and not the count. New filters are one function in `FILTERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from data.errors import UserError
from vrn import realism
from vrn.features import Described


@dataclasses.dataclass(frozen=True)
class FilterInputs:
    """All that a filter may look at: N images of the second pool, in one piece or one of many.

    Attributes:
      pool: the images in the shared feature space.
      real: the real training images there.
      vrn_score: [N], the VRN's log-odds of real-like.
      discriminator_score: [N], the discriminator's logit; None where no filter asks for it.
      seed: of the random filter.
      first_row: place of the first of the images in the pool.
    """

    pool: Described
    real: Described
    vrn_score: np.ndarray
    discriminator_score: np.ndarray | None
    seed: int
    first_row: int = 0


# The score of an image depends on nothing but that image, its place and what is the same for all,
# so that a pool of any size is scored piece by piece.
Filter = Callable[[FilterInputs], np.ndarray]


def _random(inputs: FilterInputs) -> np.ndarray:
    """Uniform numbers: those that one draw for the whole pool would give these rows."""
    bits = np.random.PCG64(inputs.seed).advance(inputs.first_row)
    return np.random.Generator(bits).random(len(inputs.pool))


FILTERS: Mapping[str, Filter] = {
    # The patent's own filter.
    "vrn": lambda inputs: inputs.vrn_score,
    # What comes for free with a GAN.
    "discriminator": lambda inputs: inputs.discriminator_score,
    # Near the real images of the class (kNN-GIQA in spirit: Gu et al. 2020, arXiv 2003.08932).
    "knn": lambda inputs: -realism.knn_strangeness(inputs.pool, inputs.real),
    # A real-trained classifier sees the class (label confidence, Xue et al. 2021, arXiv 2111.06399)
    "confidence": lambda inputs: -realism.inconsistency(inputs.pool),
    # The control for having fewer images.
    "random": _random,
}


def score(name: str, inputs: FilterInputs) -> np.ndarray:
    """Scores float64 [N] of one filter, higher = keep.

    Raises:
      UserError: unknown filter, or scores that are not finite numbers.
    """
    if name not in FILTERS:
        raise UserError(f"Unknown filter {name!r}; choose among {', '.join(FILTERS)}.")
    scores = np.asarray(FILTERS[name](inputs), np.float64)
    if not np.isfinite(scores).all():
        raise UserError(
            f"Filter {name!r} gave {np.sum(~np.isfinite(scores))} scores that are not finite; the "
            "network behind it has diverged, so train it again with a lower learning rate."
        )
    return scores


def keep_per_class(
    pieces: Sequence[tuple[np.ndarray, np.ndarray]], count: int
) -> Iterator[np.ndarray]:
    """Chooses the `count` highest scores of every class.

    Equal scores are kept in the order of the pool.

    Args:
      pieces: scores and labels, [n] each, of one piece of the pool after the other. They may lie on
        disk: no more than the scores of one class are in memory, twice.
      count: images to keep of every class.

    Yields:
      Mask bool [n] of what is kept of each piece.

    Raises:
      UserError: a class has fewer than `count` images.
    """
    classes = sorted({label for _, labels in pieces for label in np.unique(labels).tolist()})
    lowest, equal = {}, {}  # of a class: the lowest score that is kept, and how many of just that
    for label in classes:
        scores = np.concatenate([scores[labels == label] for scores, labels in pieces])
        if len(scores) < count:
            raise UserError(
                f"filter.keep asks for {count} images of class {label} but the second pool holds "
                f"{len(scores)}; generate more or keep fewer."
            )
        scores.partition(-count)
        lowest[label] = scores[-count] if count else np.inf
        equal[label] = count - int(np.sum(scores > lowest[label]))
    for scores, labels in pieces:
        kept = np.zeros(len(scores), bool)
        for label in np.unique(labels).tolist():
            here = labels == label
            kept |= here & (scores > lowest[label])
            tied = np.flatnonzero(here & (scores == lowest[label]))[: equal[label]]
            kept[tied] = True
            equal[label] -= len(tied)
        yield kept
