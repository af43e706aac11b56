"""The files below a folder, by name, one after another: a million of them need no memory."""

import os
import pathlib
import re
import stat
from collections.abc import Iterator

from data import texts
from data.errors import UserError

# A file of a source: names of classes in label order, one a line.
CLASS_NAMES = "class_names.txt"
# What the system's bytes that are not UTF-8 are in Python's text.
_BYTE = re.compile("[\udc80-\udcff]")


def file_names(folder: pathlib.Path, *, hidden: bool, unreadable: bool = False) -> Iterator[str]:
    """Names of all files below a folder, '/' between their parts, part by part in order.

    Args:
        folder: where to look; links to folders are not followed. One that isn't there has no files.
        hidden: whether files and folders that begin with a dot count.
        unreadable: whether what can't be read counts: links that lead nowhere, files out of reach,
            and folders that can't be listed, whose names end with '/'.

    Raises:
        UserError: the folder itself can't be listed.
    """
    return _below(str(folder), "", hidden, unreadable)


def subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Folders in a folder by name, links to some among them, without hidden ones.

    Raises:
        UserError: the folder can't be listed.
    """
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise _unlisted(folder, error) from None


def as_text(name: str) -> str:
    """A name in UTF-8; bytes that are none are written as %E4, so that it leads nowhere."""
    return _BYTE.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)


def hindrance(path: str) -> str | None:
    """Why there is nothing to read at a path made of `file_names`; to be put after its name."""
    if path.endswith("/"):
        return "is a folder that can't be listed; mend its rights"
    try:
        os.lstat(path)
    except FileNotFoundError:
        return "is gone, or has a name that is not UTF-8; rename it"
    except OSError:  # reading it says why
        pass
    return None


def _below(folder: str, start: str, hidden: bool, unreadable: bool) -> Iterator[str]:
    try:
        # The name of a folder stands for those of its files, which all come in its place.
        names = texts.in_order(_entries(folder, hidden), key=lambda name: name.rstrip("/"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if not start:
            raise _unlisted(folder, error) from None
        if unreadable:
            yield start
        return
    for name in names:
        if name.endswith("/"):
            yield from _below(f"{folder}/{name[:-1]}", start + name, hidden, unreadable)
        elif _is_file(f"{folder}/{name}", unreadable):
            yield start + name


def _entries(folder: str, hidden: bool) -> Iterator[str]:
    """Names in a folder, those of folders with '/' at their end."""
    with os.scandir(folder) as listed:
        for entry in listed:
            if hidden or not entry.name.startswith("."):
                yield f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _is_file(path: str, unreadable: bool) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return unreadable


def _unlisted(folder: str | pathlib.Path, error: OSError) -> UserError:
    return UserError(f"{folder} can't be listed ({error.strerror}); mend its rights.")
