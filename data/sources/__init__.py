"""Where real images come from: tfds, .npz files, and folders of images, videos, DICOM or NIfTI."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from data import marks
from data.errors import UserError
from data.records import Records
from data.sources.files import UnreadableError, read
from data.sources.raw import AXES, FLAG, VOLUME, Listing, Options, Report
from data.sources.spool import Spool

__all__ = [
    "AXES", "VOLUME", "Options", "Report", "Source", "UnreadableError", "list_source",
    "open_source",
]  # fmt: skip

_FILES = ("folder", "video", "dicom", "nifti")


@dataclasses.dataclass(frozen=True)
class Source:
    """Real images of one origin.

    Attributes:
        splits: records by split: 'train', 'val', 'test', or 'all' for a source without splits.
        spec: what `open_source` was given; used in messages.
        report: what there is to tell about the files; None for tfds and npz.
        spool: all images and what their source knew of them; None where they come from elsewhere.
    """

    splits: dict[str, Records]
    spec: str = "source"
    report: Report | None = None
    spool: Spool | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return next(iter(self.splits.values())).class_names

    def digest(self) -> str:
        """SHA-256 over every split's name and digest, in the order of their names."""
        parts = [f"{name}:{self.splits[name].digest()}" for name in sorted(self.splits)]
        return hashlib.sha256(",".join(parts).encode()).hexdigest()


def open_source(
    spec: str,
    *,
    data_dir: str | os.PathLike[str],
    size: int,
    channels: int,
    spool: pathlib.Path,
    options: Options = Options(),  # noqa: B008 (frozen)
    processes: int = 1,
) -> Source:
    """Read real images and bring them to one size and number of channels, at their own bit depth.

    The images go to the folder ``spool`` and are not held in memory. A run that was killed goes on
    with what it left there.

    Args:
        spec: 'tfds:NAME[/CONFIG]', or PATH after 'npz:', 'folder:', 'video:', 'dicom:' or 'nifti:'.
        data_dir: where tfds keeps data sets.
        size: height and width, pixels; other sizes are resized with antialiasing. Of volumes the
            depth too, unless `options` say otherwise.
        channels: 1 (grey) and 3 (RGB) are made from each other; any other number must be what an
            npz file has.
        spool: folder for the images; only ever used for the same arguments.
        options: how folders of files are read.
        processes: how many read; 0 = one per core. The records do not depend on it.

    Raises:
        UserError: a source, file or class that is missing, damaged, empty or out of range.
    """
    kind, _, where = spec.partition(":")
    if kind not in ("tfds", "npz", *_FILES) or not where:
        raise UserError(
            f"{FLAG}={spec} is none of tfds:NAME, npz:PATH, folder:PATH, video:PATH, "
            "dicom:PATH and nifti:PATH."
        )
    if options.labels and kind not in _FILES:
        raise UserError(
            f"--config.data.labels={options.labels} does not go with {FLAG}={spec}, which has its "
            "own labels; leave it out."
        )
    spool.mkdir(parents=True, exist_ok=True)
    listing = list_source(kind, where, data_dir, spool, options)
    stored, report = read(
        listing, spool, size=size, channels=channels, options=options, processes=processes
    )
    splits = stored.records(listing.entries.splits())
    for name, records in splits.items():
        marks.refuse(where, name, records.ids, options.synthetic)
        present = np.bincount(
            records.labels[records.labels >= 0], minlength=len(records.class_names)
        )
        if (present == 0).any():
            empty = records.class_names[int(np.argmin(present))]
            raise UserError(
                f"{where}: class '{empty}' has no images in split '{name}'; "
                "add some or leave the class out."
            )
    return Source(splits, spec, report if listing.of_files else None, stored)


def list_source(
    kind: str, where: str, data_dir: str | os.PathLike[str], folder: pathlib.Path, options: Options
) -> Listing:
    """What there is to read. Each kind is imported when it is used: the libraries take their time.

    Args:
        kind: left side of the source's specification.
        where: right side of it.
        data_dir: of tfds.
        folder: for files that are needed while the source is read.
        options: of folders of files.

    Raises:
        UserError: as `open_source`.
    """
    if options.axis == VOLUME and kind not in ("dicom", "nifti"):
        raise UserError(
            f"--config.data.axis={VOLUME} does not go with {FLAG}={kind}:{where}; it needs "
            "dicom:PATH or nifti:PATH."
        )
    path = pathlib.Path(where).expanduser()
    if kind == "tfds":
        from data.sources import tfds

        return tfds.list_tfds(where, data_dir)
    if kind == "npz":
        from data.sources import npz

        return npz.list_npz(path, folder)
    if kind == "folder":
        from data.sources import folder as images

        return images.list_folder(path, folder, options)
    if kind == "video":
        from data.sources import video

        return video.list_video(path, folder, options)
    if kind == "dicom":
        if options.axis == VOLUME:
            from data.sources import series

            return series.list_series(path, folder, options)
        from data.sources import dicom

        return dicom.list_dicom(path, folder, options)
    from data.sources import nifti

    return nifti.list_nifti(path, folder, options)
