"""Where real images come from: tfds, .npz files, and folders of images, DICOM or NIfTI files."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from data import marks
from data.errors import UserError
from data.records import ArrayRecords
from data.sources.files import UnreadableError
from data.sources.raw import AXES, FLAG, Options, Raw, Report, to_records

__all__ = ["AXES", "Options", "Report", "Source", "UnreadableError", "open_source"]

_FILES = ("folder", "dicom", "nifti")


@dataclasses.dataclass(frozen=True)
class Source:
    """Real images of one origin.

    Attributes:
        splits: records by split: 'train', 'val', 'test', or 'all' for a source without splits.
        spec: what `open_source` was given; used in messages.
        report: what there is to tell about the files; None for tfds and npz.
    """

    splits: dict[str, ArrayRecords]
    spec: str = "source"
    report: Report | None = None

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
    options: Options = Options(),  # noqa: B008 (frozen)
) -> Source:
    """Open real images and bring them to one size and number of channels, at their own bit depth.

    Args:
        spec: 'tfds:NAME[/CONFIG]', 'npz:PATH', 'folder:PATH', 'dicom:PATH' or 'nifti:PATH'.
        data_dir: where tfds keeps data sets.
        size: height and width, pixels; other sizes are resized with antialiasing.
        channels: 1 (grey) and 3 (RGB) are made from each other; any other number must be what an
            npz file has.
        options: how folders of files are read.

    Raises:
        UserError: a source, file or class that is missing, damaged, empty or out of range.
    """
    kind, _, where = spec.partition(":")
    if kind not in ("tfds", "npz", *_FILES) or not where:
        raise UserError(
            f"{FLAG}={spec} is none of tfds:NAME, npz:PATH, folder:PATH, dicom:PATH and nifti:PATH."
        )
    if options.labels and kind not in _FILES:
        raise UserError(
            f"--config.data.labels={options.labels} does not go with {FLAG}={spec}, which has its "
            "own labels; leave it out."
        )
    raws, report = _open(kind, where, data_dir, size, options)
    splits = {
        name: to_records(raw, f"{where} ({name})", size, channels) for name, raw in raws.items()
    }
    for name, records in splits.items():
        marks.refuse(where, name, records.ids.tolist(), options.synthetic)
    if len({records.dtype for records in splits.values()}) > 1:
        raise UserError(f"{where} mixes bit depths between splits; convert them to one.")
    for name, records in splits.items():
        present = np.bincount(
            records.labels[records.labels >= 0], minlength=len(records.class_names)
        )
        if (present == 0).any():
            empty = records.class_names[int(np.argmin(present))]
            raise UserError(
                f"{where}: class '{empty}' has no images in split '{name}'; "
                "add some or leave the class out."
            )
    return Source(splits, spec, report)


def _open(
    kind: str, where: str, data_dir: str | os.PathLike[str], size: int, options: Options
) -> tuple[dict[str, Raw], Report | None]:
    """Splits as read. Each reader is imported when it is used: the libraries take their time."""
    path = pathlib.Path(where).expanduser()
    if kind == "tfds":
        from data.sources import tfds

        return tfds.open_tfds(where, data_dir), None
    if kind == "npz":
        from data.sources import npz

        return npz.open_npz(path), None
    if kind == "folder":
        from data.sources import folder

        return folder.open_folder(path, size, options)
    if kind == "dicom":
        from data.sources import dicom

        return dicom.open_dicom(path, size, options)
    from data.sources import nifti

    return nifti.open_nifti(path, size, options)
