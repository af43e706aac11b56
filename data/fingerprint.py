"""Tells whether the files behind a source have changed, without reading the images."""

import hashlib
import os
import pathlib

from data import tables
from data.errors import UserError
from data.folders import CLASS_NAMES, file_names


def fingerprint(spec: str, labels: str = "") -> str:
    """Returns a digest of what `spec` points to.

    A file counts with its bytes, a folder with the names and sizes of its files and the lines of
    its class_names.txt, which may change places, a tfds name with itself (tfds versions its data),
    a table of labels with its bytes.

    Args:
      spec: 'tfds:NAME', 'npz:PATH', 'folder:PATH' and so on, as for `data.sources.open_source`.
      labels: path of a table of labels, '' for none.

    Raises:
      UserError: the file or folder does not exist.
    """
    if labels:
        table = pathlib.Path(labels).expanduser()
        if not table.is_file():
            raise UserError(f"--config.data.labels={labels} does not exist; mend the path.")
        parts = f"{fingerprint(spec)}\0{tables.file_sha256(table)}"
        return hashlib.sha256(parts.encode()).hexdigest()
    kind, _, where = spec.partition(":")
    if kind not in ("npz", "folder", "video", "dicom", "nifti"):
        return hashlib.sha256(spec.encode()).hexdigest()
    path = pathlib.Path(where).expanduser()
    if not path.exists():
        raise UserError(f"--config.data.source={spec}: {path} does not exist; mend the path.")
    if path.is_file():
        return tables.file_sha256(path)
    hasher = hashlib.sha256()
    for name in file_names(path, hidden=True):
        hasher.update(_bytes(f"{name}\0{os.path.getsize(f'{path}/{name}')}\0"))
        if name == CLASS_NAMES:
            hasher.update((path / name).read_bytes())
    return hasher.hexdigest()


def stamp(spec: str) -> str:
    """Returns a digest that any file written since changes, even one of the same size.

    Unlike `fingerprint` it changes when a source is copied, so it is for one run that goes on, not
    for what was made of the source. A tfds name counts with itself.

    Args:
      spec: as for `fingerprint`, of something that is there.
    """
    path = pathlib.Path(spec.partition(":")[2]).expanduser()
    # What can't be read counts as well: it is an entry of the list that a run goes on with.
    found = file_names(path, hidden=True, unreadable=True)
    names = found if path.is_dir() else iter([""] * path.is_file())
    hasher = hashlib.sha256(spec.encode())
    for name in names:
        try:
            facts = os.stat(f"{path}/{name}" if name else path)
            known = f"{facts.st_size}\0{facts.st_mtime_ns}"
        except OSError:
            known = ""
        hasher.update(_bytes(f"{name}\0{known}\0"))
    return hasher.hexdigest()


def _bytes(text: str) -> bytes:
    """As the system has it: names of files need not be UTF-8."""
    return text.encode(errors="surrogateescape")
