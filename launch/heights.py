"""Where slices lie in their volumes: what tells of disease without showing any."""

import dataclasses
import pathlib

import numpy as np

from data.errors import UserError
from data.loader import Matched
from data.records import Records
from evaluation import matched
from launch import prepare


@dataclasses.dataclass(frozen=True)
class Heights:
    """How high slices lie in their volumes.

    Attributes:
      bins: int [N], `evaluation.matched.binned`.
      alone: [N], how often training slices of the same bin are diseased.
    """

    bins: np.ndarray
    alone: np.ndarray


def bins(workdir: pathlib.Path, part: Records) -> np.ndarray | None:
    """The bin of each slice of a split, int [N]; None where number or patient are not known."""
    slices = prepare.slices_of(workdir, part)
    if slices is None or part.groups is None:
        return None
    return matched.binned(matched.heights(slices, np.asarray(part.groups)))


def judged(workdir: pathlib.Path, part: Records, diseased: np.ndarray) -> Heights | None:
    """Of the slices of a split.

    Args:
      workdir: work directory.
      part: of the split.
      diseased: bool [M], which training images are.
    """
    train = bins(workdir, prepare.open_split(workdir, "train"))
    here = bins(workdir, part)
    if train is None or here is None:
        return None
    return Heights(here, matched.prevalence(train, diseased)[here])


def of_healthy(workdir: pathlib.Path, real: Records, diseased: np.ndarray) -> Matched:
    """How healthy training slices are drawn as often at each height as diseased ones lie there.

    Healthy slices at heights where no diseased one lies are not drawn.

    Args:
      workdir: work directory.
      real: the training images.
      diseased: bool [N], which of them are.

    Raises:
      UserError: it is not known how high they lie.
    """
    found = bins(workdir, real)
    if found is None:
        raise UserError(
            "--config.translator.match_heights: of these images it is not known which slice of "
            "which patient they are; leave it out, or give data.source their slice_index and "
            "patient (docs/data.md)"
        )
    return Matched(found[~diseased], found[diseased])
