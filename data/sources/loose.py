"""Files without labels: one file, or all of one kind in a folder."""

import functools
import pathlib

from data import preprocess
from data.errors import UserError
from data.sources import dicom, folder, nifti
from data.sources.raw import VOLUME, Entry, Listing, Options

_FINDERS = {"nifti": nifti.find_files, "dicom": dicom.find_files, "folder": folder.find_files}


def list_loose(path: pathlib.Path, options: Options) -> Listing:
    """Images (PNG and others), DICOM or NIfTI files, in one unlabelled split 'all'.

    Raises:
        UserError: nothing there, files of several kinds, or DICOM series to be kept as volumes.
    """
    root = path if path.is_dir() else path.parent
    found = {kind: sorted(find(root)) for kind, find in _FINDERS.items()}
    if not path.is_dir():
        found = {kind: [n for n in names if n == path.name] for kind, names in found.items()}
    found = {kind: names for kind, names in found.items() if names}
    if not found:
        raise UserError(f"{path} holds no image, DICOM or NIfTI file; give one, or a folder.")
    if len(found) > 1:
        raise UserError(f"{path} holds files of several kinds ({', '.join(found)}); part them.")
    ((kind, names),) = found.items()
    if kind == "dicom" and options.axis == VOLUME:
        raise UserError(
            f"{path} holds DICOM files, which are translated one by one; leave "
            f"--config.data.axis={VOLUME} out, or give the volume as a NIfTI file."
        )
    decode = {
        "nifti": functools.partial(nifti.decode, axis=options.axis),
        "dicom": functools.partial(
            dicom.decode,
            windowed=not preprocess.works_in_units(preprocess.parse(options.preprocess, 1)),
        ),
        "folder": folder.decode,
    }[kind]
    entries = [Entry(str(root / name), name, -1, "all") for name in names]
    return Listing(entries, ("unlabelled",), decode, kind, str(path))
