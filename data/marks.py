"""How files say that their image is synthetic, and how that is found again.

Whatever writes a synthetic image to a file marks it, and whatever reads files looks for the marks:
images that bear one are never among real ones: only the arm `imported` trains on them, and nothing
is tested on them. A mark is any of

- a PNG text chunk `Synthetic: yes`,
- in DICOM, Synthetic Data (0008,001C) = YES,
- in NIfTI, an extension or a description of ours that says so,
- FILE.json beside FILE, with `"synthetic": true`,
- export.json in the file's folder or one above it, likewise,
- a file name that is the sample id of a pool,
- `synthetic` in the file's row of a table of labels, in an npz file, or in a tfds data set.
"""

import functools
import io
import json
import pathlib
import struct
import zlib

import nibabel as nib
import numpy as np
from pydicom import uid
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from data import texts
from data.errors import UserError
from data.sample_ids import parse_sample_id

# Before the ids of synthetic images that were read from files, so that they are known for good.
PREFIX = "synthetic:"
POLICIES = ("refuse", "train")
PNG_KEY, PNG_YES = "Synthetic", "yes"
EXPORT = "export.json"
NIFTI_CODE = 6  # 'comment', https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields
NIFTI_TEXT = "synthetic image, not of a patient"
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"iTXt")
_LONGEST = 1 << 16  # bytes of a text chunk or a sidecar that are looked at
_TRUE = ("1", "true", "yes")


def is_marked(name: str) -> bool:
    """Whether the id of an image says that it is synthetic."""
    return name.startswith(PREFIX)


def marked(names: texts.Column) -> np.ndarray:
    """`is_marked` of ids [N], bool [N]."""
    found = [np.char.startswith(block, PREFIX) for block in texts.blocks(names)]
    return np.concatenate([np.zeros(0, bool), *found])


def says_yes(value: object) -> bool:
    """Whether a value of a column or key `synthetic` means that."""
    return str(value).strip().lower() in _TRUE


def refuse(where: str, split: str, names: texts.Column, policy: str) -> None:
    """Raise a UserError if a split of a source has synthetic images that it may not have.

    Args:
        where: the source, for the message.
        split: 'train', 'val', 'test' or 'all'.
        names: ids [N] of its images.
        policy: one of `POLICIES`.
    """
    found = np.flatnonzero(marked(names))
    if not found.size:
        return
    first = str(names[found[0]]).removeprefix(PREFIX)
    what = f"{where}: {len(found)} images are marked as synthetic (the first is '{first}')"
    if split in ("val", "test"):
        raise UserError(
            f"{what} in the split '{split}'; validate and test on real images only: remove them."
        )
    if policy == "refuse":
        raise UserError(
            f"{what}; remove them, or let the arm 'imported' train on them, with 'imported' in "
            "--config.target.arms and --config.data.synthetic=train."
        )


def of_file(file: pathlib.Path, root: pathlib.Path) -> bool:
    """Whether a file below the folder `root` bears a mark; a damaged one bears none."""
    return (
        _is_sample_id(file.name.partition(".")[0])
        or _in_json(file.with_name(file.name + ".json"))
        or any(_in_folder(folder) for folder in _folders(file.parent, root))
        or _in_content(file)
    )


def _folders(folder: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path]:
    """A folder and those above it, up to and with `root`."""
    above = [folder, *folder.parents]
    return above[: above.index(root) + 1] if root in above else [folder]


@functools.lru_cache(maxsize=1024)
def _in_folder(folder: pathlib.Path) -> bool:
    return _in_json(folder / EXPORT)


def _in_json(path: pathlib.Path) -> bool:
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            return False
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("synthetic") is True


def _is_sample_id(stem: str) -> bool:
    try:
        parse_sample_id(stem)
    except ValueError:
        return False
    return True


def _in_content(file: pathlib.Path) -> bool:
    try:
        with file.open("rb") as opened:
            head = opened.read(132)
        if head.startswith(_PNG):
            return _in_png(file)
        if head[128:] == b"DICM":
            return _in_dicom(file)
        if file.name.lower().endswith((".nii", ".nii.gz")):
            return nifti_facts(nib.load(file).header).get("synthetic") is True
    except Exception:  # damaged files fail in many ways; reading them will say how
        return False
    return False


def _in_png(file: pathlib.Path) -> bool:
    """Looks through the chunks, also those behind the pixels, without decoding any."""
    with file.open("rb") as opened:
        opened.seek(len(_PNG))
        while len(head := opened.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in _TEXTS and length <= _LONGEST:
                key, _, rest = opened.read(length).partition(b"\0")
                if key == PNG_KEY.encode() and rest.rpartition(b"\0")[2] == PNG_YES.encode():
                    return True
                opened.seek(4, 1)
            else:
                opened.seek(length + 4, 1)
    return False


def _in_dicom(file: pathlib.Path) -> bool:
    """Reads the first elements only; of a deflated file no more than these need."""

    def beyond(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return tag > 0x0008001C

    with file.open("rb") as opened:
        opened.seek(132)
        meta = read_dataset(opened, False, True, stop_when=lambda tag, *_: tag.group > 2)
        syntax, stream = meta.get("TransferSyntaxUID"), opened
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            stream = io.BytesIO(inflater.decompress(opened.read(_LONGEST), _LONGEST))
        implicit, little = syntax == uid.ImplicitVRLittleEndian, syntax != uid.ExplicitVRBigEndian
        head = read_dataset(stream, implicit, little, stop_when=beyond)
    return str(head.get("SyntheticData", "")).strip() == "YES"


def nifti_facts(header: nib.Nifti1Header) -> dict[str, object]:
    """What the exporter wrote into a NIfTI header; empty for files of others."""
    for extension in getattr(header, "extensions", ()):
        if extension.get_code() == NIFTI_CODE and extension.get_sizeondisk() <= _LONGEST:
            try:
                content = extension.get_content()
                found = json.loads(content if isinstance(content, str | bytes) else bytes(content))
            except (ValueError, TypeError, RecursionError):
                continue
            if isinstance(found, dict) and "vrn" in found:
                return found
    described = bytes(header["descrip"].item() if "descrip" in header else b"")
    return {"synthetic": True} if described.startswith(NIFTI_TEXT.encode()) else {}
