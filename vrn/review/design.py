"""Who sees which image when: blinded mixes of real and synthetic images, repeats, assignment.

All of it is drawn from the study's seed, so that the same study is planned again the same.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

# Fewest images between two showings of the same one, where there are enough.
GAP = 20


@dataclasses.dataclass(frozen=True)
class Label:
    """One answer a rater may give.

    Attributes:
      name: as stored.
      score: in [0, 1]; above 0.5 speaks for real-like, 0.5 is undecided.
      key: of the keyboard.
    """

    name: str
    score: float
    key: str


# The first is what grid mode gives the images left alone, the last what it gives the marked ones.
LABEL_SETS: Mapping[str, tuple[Label, ...]] = {
    "three": (
        Label("real-like", 1.0, "f"),
        Label("unsure", 0.5, " "),
        Label("non-real-like", 0.0, "j"),
    ),
    "five": (
        Label("surely real-like", 1.0, "d"),
        Label("probably real-like", 0.75, "f"),
        Label("unsure", 0.5, " "),
        Label("probably not real-like", 0.25, "j"),
        Label("surely not real-like", 0.0, "k"),
    ),
    "turing": (
        Label("real", 1.0, "f"),
        Label("unsure", 0.5, " "),
        Label("generated", 0.0, "j"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """One showing of one image to one rater.

    Attributes:
      sample_id: the image.
      real: whether it is a real one, which the page never tells.
      repeat: whether the rater was to see it before.
    """

    sample_id: str
    real: bool
    repeat: bool


def reals_for(synthetic: int, share: float, available: int) -> int:
    """How many real images make up `share` of a mix with so many synthetic ones."""
    return min(available, round(synthetic * share / (1 - share)))


def assign(count: int, raters: Sequence[str], per_image: int, seed: int) -> dict[str, np.ndarray]:
    """Divides images among raters so that their loads differ by one image at most.

    Args:
      count: N images.
      raters: their names.
      per_image: raters of every image; 0: all of them.
      seed: of the division.

    Returns:
      Rows int [n] of the images of every rater, ascending.
    """
    everyone = len(raters)
    per_image = min(per_image, everyone) or everyone
    order = np.random.default_rng(seed).permutation(count)
    # Image i goes to `per_image` raters in turn, starting where the last image stopped.
    turns = (np.arange(count)[:, None] * per_image + np.arange(per_image)) % everyone
    return {
        rater: np.sort(order[(turns == number).any(axis=1)]) for number, rater in enumerate(raters)
    }


def plan(
    synthetic: Sequence[str], real: Sequence[str], rater: str, repeats: float, seed: int
) -> list[Task]:
    """The showings of one rater in order: every image once, a share of them again later.

    Args:
      synthetic: sample ids of generated images.
      real: ids of real images among which they are hidden.
      rater: name; every rater has another order.
      repeats: share of the images that is shown a second time, in [0, 1].
      seed: of the study.
    """
    images = [(str(one), False) for one in synthetic] + [(str(one), True) for one in real]
    count = len(images)
    rng = np.random.default_rng([seed, zlib.crc32(rater.encode())])
    order = rng.permutation(count)
    gap = min(GAP, count // 2)
    early = count - gap  # images that leave room for a second showing
    again = rng.choice(early, min(round(repeats * count), early), replace=False)
    # Places on a line: image i at i, its second showing anywhere from `gap` later to the end.
    later = again + gap + rng.random(len(again)) * (count - again - gap)
    places = np.concatenate([np.arange(count), later])
    rows = np.concatenate([order, order[again]])
    return [Task(*images[rows[i]], bool(i >= count)) for i in np.argsort(places, kind="stable")]


def active(tasks: Sequence[Task], uncertainty: Mapping[str, float]) -> list[int]:
    """Puts the images first of which a VRN is least certain.

    Only first showings of images with a known uncertainty change places, among themselves: real
    images and repeats stay spread over the study as they were.

    Args:
      tasks: not yet labelled ones, in order.
      uncertainty: sample id to distance from the VRN's decision, lowest first.

    Returns:
      The order, as indices into `tasks`.
    """
    movable = [
        i for i, task in enumerate(tasks) if not task.repeat and task.sample_id in uncertainty
    ]
    ranked = sorted(movable, key=lambda i: uncertainty[tasks[i].sample_id])
    order = list(range(len(tasks)))
    for place, index in zip(movable, ranked, strict=True):
        order[place] = index
    return order
