"""What every kind of source hands over, and how it becomes records of one size."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from data import images as image_files
from data.errors import UserError
from data.records import ArrayRecords

FLAG = "--config.data.source"
# Names of splits as sources spell them, and ours.
SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
# Directions in which the slices of a volume follow one another.
AXES = ("sagittal", "coronal", "axial")


@dataclasses.dataclass(frozen=True)
class Options:
    """How a folder of files is read; `configs/default.py` explains the fields of `config.data`.

    Attributes:
        labels: CSV or Parquet table of labels; '' takes them from class folders.
        axis: one of `AXES`; which slices of a NIfTI volume are the images.
        salt: what patient identifiers are digested with.
        max_unreadable: share of the files, from 0 to 1, that may be unreadable.
        synthetic: what becomes of images marked as synthetic: 'refuse', or 'train', never 'test'.
    """

    labels: str = ""
    axis: str = "axial"
    salt: str = ""
    max_unreadable: float = 0.1
    synthetic: str = "refuse"


@dataclasses.dataclass(frozen=True)
class Report:
    """What there is to tell about the files of a source.

    Attributes:
        files: how many were to be read.
        unreadable: {relative path: why it was not read}.
        blank: slices left out because all their pixels are alike.
        more_volumes: files of several volumes, of which the first was read.
        sites: {site: files read}, where the table of labels has sites.
        intensity: {image id: (value that the lowest pixel stands for, value of the highest)}, in
            the units of the file; NaN where there is no such value (colour, lookup tables).
    """

    files: int
    unreadable: Mapping[str, str]
    blank: int
    more_volumes: int
    sites: Mapping[str, int]
    intensity: Mapping[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Raw:
    """One split as read: images [H, W, C] of any size, one array or a list of them."""

    images: Sequence[np.ndarray] | np.ndarray
    labels: np.ndarray
    ids: Sequence[str] | np.ndarray
    class_names: Sequence[str]
    groups: Sequence[str] | np.ndarray | None = None


def to_records(raw: Raw, where: str, size: int, channels: int) -> ArrayRecords:
    """Resize, set the channels and validate.

    Raises:
        UserError: no images, or channels that can't be made of those there are.
    """
    if len(raw.images) == 0:
        raise UserError(f"{where} holds no images.")
    for found in {image.shape[-1] for image in raw.images}:
        if found != channels and {found, channels} != {1, 3}:
            raise UserError(
                f"{where} has images of {found} channels, --config.data.channels={channels} can't "
                f"be made of them; set it to {found}."
            )
    if isinstance(raw.images, np.ndarray) and raw.images.shape[1:3] == (size, size):
        images = image_files.set_channels(raw.images, channels)
    else:
        images = np.stack(
            [image_files.set_channels(image_files.resize(x, size), channels) for x in raw.images]
        )
    return ArrayRecords(images, raw.labels, raw.ids, raw.class_names, raw.groups, where=where)
