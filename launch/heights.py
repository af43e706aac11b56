"""Where slices lie in their volumes: what tells of disease without showing any."""

import dataclasses
import pathlib

import numpy as np

from data.errors import UserError
from data.loader import Matched
from data.records import Records
from evaluation import matched
from launch import prepare

_LAP = 1000  # draws, after which each height has had its share


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


def of_healthy(
    workdir: pathlib.Path, real: Records, diseased: np.ndarray, share: float
) -> Matched | None:
    """How healthy training slices are drawn so that their height tells less of disease, or nothing.

    Args:
      workdir: work directory.
      real: the training images.
      diseased: bool [N], which of them are.
      share: of the draws, from 0 to 1: those that are made as often at each height as diseased
        slices lie there; the others as often as healthy ones do. 0 matches nothing: None is
        returned.

    Raises:
      UserError: it is not known how high the slices lie.
    """
    if not share:
        return None
    found = bins(workdir, real)
    if found is None:
        raise UserError(
            "--config.translator.match_heights: of these images it is not known which slice of "
            "which patient they are; leave it out, or give data.source their slice_index and "
            "patient (docs/data.md)"
        )
    often = np.zeros(matched.BINS)
    for which, weight in ((diseased, share), (~diseased, 1 - share)):
        often += weight * np.bincount(found[which], minlength=matched.BINS) / which.sum()
    like = np.repeat(np.arange(matched.BINS), np.rint(_LAP * often).astype(int))
    return Matched(found[~diseased], like)
