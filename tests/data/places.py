"""Volumes whose values tell the place, and how they are read."""

import pathlib

import numpy as np

from data.sources import Options, series
from data.sources.raw import Picture

TOP = 65535
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rotation(angle: float) -> np.ndarray:
    """A turn about the last axis, then about the first."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, -s], [0, s, c]]
    )


def read_series(folder: pathlib.Path, *, windowed: bool = True) -> Picture:
    """The volume of all files of a folder."""
    (entry,) = series.list_series(folder, folder, Options(axis="volume")).entries
    (found,) = series.decode(entry, windowed).pictures
    return found


def field(mm: np.ndarray) -> np.ndarray:
    """A number that tells the place, different for all voxels here."""
    return np.rint(2000 + mm @ np.array([7.0, 31.0, 101.0]))
