"""What every kind of source hands over before anything is read, and what reading a file gives."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from data.sources.entries import Entries

FLAG = "--config.data.source"
# Names of splits as sources spell them, and ours.
SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
# Directions in which the slices of a volume follow one another.
AXES = ("sagittal", "coronal", "axial")
VOLUME = "volume"  # instead of one of them: volumes are not cut


@dataclasses.dataclass(frozen=True)
class Options:
    """How a folder of files is read; `configs/default.py` explains the fields of `config.data`.

    Attributes:
        labels: CSV or Parquet table of labels; '' takes them from class folders.
        axis: one of `AXES`; which slices of a NIfTI volume are the images. Or `VOLUME`: NIfTI
            volumes and DICOM series are records as a whole.
        depth: slices that volumes become; 0 = as many as the size says.
        stride: of the frames of a video, which are images number 0, stride, 2 stride and so on.
        salt: what patient identifiers are digested with.
        max_unreadable: share of the files, from 0 to 1, that may be unreadable.
        preprocess: names of steps, see `data.preprocess.parse`.
        synthetic: what becomes of images marked as synthetic: 'refuse', or 'train', never 'test'.
    """

    labels: str = ""
    axis: str = "axial"
    depth: int = 0
    stride: int = 1
    salt: str = ""
    max_unreadable: float = 0.1
    preprocess: tuple[str, ...] = ("resize",)
    synthetic: str = "refuse"

    def spatial(self, size: int) -> tuple[int, ...]:
        """Shape of a record without channels: (H, W), or (D, H, W) of volumes."""
        return (self.depth or size, size, size) if self.axis == VOLUME else (size, size)


@dataclasses.dataclass(frozen=True)
class Report:
    """What there is to tell about the files of a source.

    Attributes:
        files: how many were to be read; each image of a file counts where one of them is damaged.
        unreadable: {relative path, or id of an image: why it was not read}.
        blank: slices left out because all their pixels are alike.
        more_volumes: files of several volumes, of which the first was read.
        sites: {site: files read}, where the table of labels has sites.
    """

    files: int
    unreadable: Mapping[str, str]
    blank: int
    more_volumes: int
    sites: Mapping[str, int]

    @classmethod
    def joined(cls, told: Iterable[Mapping[str, Any]]) -> "Report":
        """One report of those of several parts, each a mapping of these names."""
        files = blank = more_volumes = 0
        unreadable: dict[str, str] = {}
        sites: Counter[str] = Counter()
        for part in told:
            files += part["files"]
            blank += part["blank"]
            more_volumes += part["more_volumes"]
            unreadable |= part["unreadable"]
            sites.update(part["sites"])
        return cls(files, unreadable, blank, more_volumes, sites)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a row of one, and what is known of it before it is read.

    Attributes:
        file: where it lies; text, which needs a fifth of the memory of a `pathlib.Path`.
        name: path relative to the root of the source, or the row's id, after `marks.PREFIX` if the
            image is marked as synthetic; part of image ids.
        label: number of its class; -1 = none given.
        split: 'train', 'val', 'test' or 'all'.
        patient: as the table gives it, '' where it doesn't; never shown.
        site: likewise; where the file comes from.
        group: what must not be split, as a source that needs no digests gives it.
        row: its number in a file that holds many images.
        columns: what further columns of the table say of it.
        mask: where its mask lies, '' for none.
        slices: the files of a series, each with its own entry, where they are one volume.
    """

    file: str
    name: str
    label: int
    split: str
    patient: str = ""
    site: str = ""
    group: str = ""
    row: int = 0
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    slices: Sequence["Entry"] = ()
    mask: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image of a file, or one volume.

    Attributes:
        pixels: [H, W, C] uint8, uint16 or float32; of a volume [D, H, W, C], from inferior to
            superior, anterior to posterior, and right to left.
        frame: its number in the file; None for a file that is one image.
        low, high: values that the lowest and the highest pixel stand for; NaN where unknown.
        bits: that the file stores per pixel; 0 stands for those of `pixels`.
        minimum, maximum: values of the image before any window, in the units of the file; NaN
            stands for those of `pixels`.
        spacing: mm between slices, rows and columns; NaN where unknown.
        window: ends of the window in the file's header, in its units; NaN where there is none.
        affine: float64 [4, 4], from (d, h, w, 1) of a voxel to mm to the patient's right, anterior
            and superior, as in NIfTI; d is 0 for images. None where the file does not tell.
        mask: [H, W] or [D, H, W] uint8, what is seen at each pixel; None where there is none.
    """

    pixels: np.ndarray
    frame: int | None = None
    low: float = np.nan
    high: float = np.nan
    bits: int = 0
    minimum: float = np.nan
    maximum: float = np.nan
    spacing: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    window: tuple[float, float] = (np.nan, np.nan)
    affine: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Damaged:
    """One image of a file of several that can't be read: its number, and why."""

    frame: int
    why: str


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What a file holds.

    Attributes:
        pictures: its images, and those that can't be read; may be read while they are taken.
        owner: what images of one patient have in common, '' where unknown; never shown.
        blank: slices left out because all their pixels are alike.
        more_volumes: whether the file has further volumes that were not read.
        entry: what is known of a row only once it is read; None where the listing had it.
    """

    pictures: Iterable[Picture | Damaged]
    owner: str = ""
    blank: int = 0
    more_volumes: bool = False
    entry: Entry | None = None


Decode = Callable[[Entry], Decoded]


@dataclasses.dataclass(frozen=True)
class Listing:
    """All that a source has to read.

    Attributes:
        entries: files or rows, in the order of the records; see `data.sources.entries`.
        class_names: in label order.
        decode: reads one of them; can be sent to another process.
        kind: of the source, as `open_source` is given it.
        where: path or name, for messages.
    """

    entries: "Entries"
    class_names: Sequence[str]
    decode: Decode
    kind: str
    where: str

    @property
    def of_files(self) -> bool:
        """Whether every entry is a file, one of which may be damaged without harm to others."""
        return self.kind not in ("npz", "tfds")
