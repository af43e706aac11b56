"""Annotators: real-like or not, for every image of a pool.

Every annotator gives a score in [0, 1] per image, where >= 0.5 means real-like (step 2 of the
patent, US 2021/0279869: an expert, or supervised, semi- or unsupervised models).

    knn                      distance to real images of the class, as a p-value      label-free
    consistency              does a real-trained classifier see the class?           label-free
    sklearn:NAME(key=value)  any scikit-learn classifier, trained on labels given so far
    ensemble                 mean score of several of these
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from data.errors import UserError
from vrn import estimators, realism
from vrn.features import Described

NON_REAL_LIKE, REAL_LIKE, UNKNOWN = 0, 1, -1


@dataclasses.dataclass(frozen=True)
class Reals:
    """The real images annotators compare with.

    Attributes:
      train: those the generator and the feature network learnt from.
      held_out: those neither has seen (the validation split); they say how strange a real image
        can look.
    """

    train: Described
    held_out: Described


def annotate(
    name: str,
    pool: Described,
    real: Reals,
    *,
    given: np.ndarray | None = None,
    threshold: float = 0.05,
    neighbours: int = 3,
    seed: int = 0,
    members: Sequence[str] = ("knn", "consistency"),
) -> np.ndarray:
    """Scores a pool.

    Args:
      name: an annotator of the table above.
      pool: the synthetic images, N of them.
      real: the real images.
      given: int [N], labels known so far: 1 real-like, 0 non-real-like, -1 unknown. Needed by
        `sklearn:` annotators.
      threshold: for the label-free ones, the p-value that counts as just real-like, in (0, 1): the
        share of true images one is ready to call non-real-like.
      neighbours: k of the k-NN realism.
      seed: of estimators that draw random numbers.
      members: the annotators of an ensemble.

    Returns:
      float64 [N] in [0, 1]; >= 0.5 means real-like.

    Raises:
      UserError: unknown annotator or estimator, bad argument, or labels of one kind only.
    """
    if not 0 < threshold < 1:
        raise UserError(f"annotate.threshold is {threshold}; give a share between 0 and 1.")
    if name in LABEL_FREE:
        return LABEL_FREE[name](pool, real, threshold, neighbours)
    if name == "ensemble":
        if not members or "ensemble" in members:
            raise UserError(
                f"annotate.members is {tuple(members)}; name one or more annotators other than "
                "'ensemble'."
            )
        options = {"threshold": threshold, "neighbours": neighbours, "seed": seed}
        scores = [annotate(member, pool, real, given=given, **options) for member in members]
        return np.mean(scores, axis=0)
    if name.startswith(estimators.PREFIX):
        return _supervised(name, design(pool, real, neighbours), given, seed)
    raise UserError(
        f"Unknown annotator {name!r}; choose one of {', '.join(LABEL_FREE)}, ensemble or "
        f"{estimators.PREFIX}NAME of a scikit-learn classifier."
    )


def _label_free(
    strangeness: Callable[[Described, Described, int], np.ndarray],
) -> Callable[[Described, Reals, float, int], np.ndarray]:
    def score(pool: Described, real: Reals, threshold: float, neighbours: int) -> np.ndarray:
        p = realism.class_p_values(
            strangeness(pool, real.train, neighbours),
            pool.labels,
            strangeness(real.held_out, real.train, neighbours),
            real.held_out.labels,
            threshold,
        )
        # The power that carries p = threshold to 1/2 and leaves 0 and 1 where they are.
        return p ** (np.log(0.5) / np.log(threshold))

    return score


LABEL_FREE: Mapping[str, Callable[[Described, Reals, float, int], np.ndarray]] = {
    "knn": _label_free(realism.knn_strangeness),
    "consistency": _label_free(lambda images, *_: realism.inconsistency(images)),
}


def needs_labels(name: str, members: Sequence[str] = ()) -> bool:
    """Whether `annotate(name, members=members)` must be given labels."""
    return name.startswith(estimators.PREFIX) or (
        name == "ensemble" and any(map(needs_labels, members))
    )


def confident_labels(scores: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    """Labels for the extremes of a label-free score, to train supervised annotators on.

    Within each class the `share` highest scores are called real-like and the `share` lowest
    non-real-like, but never against the score itself (>= 0.5 means real-like), so that a class
    without bad images gets none invented.

    Args:
      scores: [N] in [0, 1].
      labels: int [N], class labels.
      share: of a class on either side, in (0, 0.5].

    Returns:
      int8 [N]: 1 real-like, 0 non-real-like, -1 unknown.
    """
    if not 0 < share <= 0.5:
        raise UserError(f"annotate.confident_share is {share}; give a share in (0, 0.5].")
    given = np.full(len(scores), UNKNOWN, np.int8)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(scores[rows], kind="stable")]
        count = max(1, round(share * len(rows)))
        lowest, highest = rows[:count], rows[-count:]
        given[lowest[scores[lowest] < 0.5]] = NON_REAL_LIKE
        given[highest[scores[highest] >= 0.5]] = REAL_LIKE
    return given


def design(images: Described, real: Reals, neighbours: int) -> np.ndarray:
    """What scikit-learn annotators see, [N, F + 2], standardised on the real training images.

    The features say what is in the image; the last two columns, how strange it is for the class it
    should show (`knn_strangeness`, `inconsistency`), which the features alone cannot tell. Those
    two are scaled by the held-out reals: training images are too close to themselves to judge.
    """
    mean, std = _scale_of(real.train.features)

    def strangeness(rows: Described) -> np.ndarray:
        distance = realism.knn_strangeness(rows, real.train, neighbours)
        return np.stack([distance, realism.inconsistency(rows)], axis=1)

    strange_mean, strange_std = _scale_of(strangeness(real.held_out))
    return np.concatenate(
        [(images.features - mean) / std, (strangeness(images) - strange_mean) / strange_std], axis=1
    )


def _scale_of(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [F] of features [N, F]; constant features get deviation 1."""
    std = reference.std(0)
    return reference.mean(0), np.where(std > 1e-6 * max(float(std.max()), 1e-12), std, 1.0)


def _supervised(name: str, inputs: np.ndarray, given: np.ndarray | None, seed: int) -> np.ndarray:
    if given is None:
        raise UserError(
            f"Annotator {name!r} learns from labels and none were given; add labels of the first "
            "pool or use a label-free annotator (knn, consistency)."
        )
    given = np.asarray(given)
    counts = [int(np.sum(given == kind)) for kind in (NON_REAL_LIKE, REAL_LIKE)]
    if min(counts) < 2:
        raise UserError(
            f"Annotator {name!r} needs at least 2 labels of either kind, and was given {counts[1]} "
            f"real-like and {counts[0]} non-real-like; label more images of the first pool."
        )
    estimator = estimators.probabilistic(name, min(counts), seed)
    rows = (given != UNKNOWN) | estimators.is_semi_supervised(estimator)
    try:
        estimator.fit(inputs[rows], given[rows])
        probs = estimator.predict_proba(inputs)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"Annotator {name!r} cannot learn from the features: {error}") from error
    # Label propagation leaves a row that no label reaches without probabilities: undecided.
    return np.nan_to_num(probs[:, list(estimator.classes_).index(REAL_LIKE)], nan=0.5)
