"""A feature space in which the truth is known: what is real-like, and what only nearly is."""

import dataclasses

import numpy as np
import pytest

from vrn.annotators import Reals
from vrn.features import Described

CLASSES, FEATURES = 3, 12


@dataclasses.dataclass(frozen=True)
class Toy:
    """Real images and a pool [N] of which `good` [N] is drawn like them."""

    reals: Reals
    pool: Described
    good: np.ndarray


def draw(rng: np.random.Generator, labels: np.ndarray, shift: np.ndarray | float = 0) -> Described:
    """Features around one of three class centres, and the probabilities Bayes' rule gives."""
    centres = 4 * np.eye(CLASSES, FEATURES)
    features = centres[labels] + rng.normal(size=(len(labels), FEATURES)) + shift
    squares = ((features[:, None] - centres) ** 2).sum(2)
    odds = np.exp(-(squares - squares.min(1, keepdims=True)) / 2)
    probs = odds / odds.sum(1, keepdims=True)
    return Described(features.astype(np.float32), probs.astype(np.float32), labels)


@pytest.fixture(scope="session")
def toy() -> Toy:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % CLASSES
    good = rng.random(300) < 0.5
    direction = np.zeros(FEATURES)
    direction[-4:] = 1.75
    pool = draw(rng, labels, np.where(good, 0, 1)[:, None] * direction)
    reals = Reals(train=draw(rng, np.arange(180) % 3), held_out=draw(rng, np.arange(150) % 3))
    return Toy(reals, pool, good)
