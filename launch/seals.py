"""Seals: digests of a checkpoint's files, by which damage is noticed before anything is read."""

import pathlib

from data import tables
from data.errors import UserError

NAME = "digests.json"
# Orbax writes these two after the seal; they hold times, nothing that is restored.
_UNSEALED = ("_CHECKPOINT_METADATA", "commit_success.txt")


def seal(folder: pathlib.Path) -> None:
    """Writes the digests of all files in `folder` beside them."""
    files = {name: tables.file_sha256(folder / name) for name in _names(folder)}
    tables.write_json(folder / NAME, files)


def damage(folder: pathlib.Path) -> str | None:
    """Returns what is wrong with a sealed folder, or None: all files are as they were written."""
    try:
        files = tables.read_json(folder / NAME)
    except (UserError, OSError):
        files = None
    if not isinstance(files, dict):
        return f"{NAME} is missing or damaged"
    for name, digest in files.items():
        try:
            if not (folder / name).is_file():
                return f"{name} is missing"
            if tables.file_sha256(folder / name) != digest:
                return f"{name} is not as it was written"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def _names(folder: pathlib.Path) -> list[str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [str(path.relative_to(folder)) for path in found]
    return [name for name in names if name not in (*_UNSEALED, NAME)]
