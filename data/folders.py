"""The files below a folder, by name, one after another: a million of them need no memory."""

import os
import pathlib
from collections.abc import Iterator

from data.errors import UserError, reason


def file_names(folder: pathlib.Path, *, hidden: bool, dangling: bool = False) -> Iterator[str]:
    """Names of all files below a folder, '/' between their parts, part by part in order.

    Args:
        folder: where to look; links to folders are not followed.
        hidden: whether files and folders that begin with a dot count.
        dangling: whether links that lead nowhere count.

    Raises:
        UserError: a folder that can't be listed, or a name that is not UTF-8.
    """
    return _below(str(folder), "", hidden, dangling)


def _below(folder: str, start: str, hidden: bool, dangling: bool) -> Iterator[str]:
    try:
        with os.scandir(folder) as listed:
            # Of every entry only its name, and whether it is a folder, is kept.
            found = [
                f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in listed
                if hidden or not entry.name.startswith(".")
            ]
    except OSError as error:
        raise UserError(f"{folder} can't be listed ({reason(error)}); mend its rights.") from None
    # The name of a folder stands for those of its files, which all come in its place.
    found.sort(key=lambda name: name.rstrip("/"))
    for name in found:
        if name.endswith("/"):
            yield from _below(f"{folder}/{name[:-1]}", start + name, hidden, dangling)
        elif _is_file(f"{folder}/{name}", dangling):
            yield _utf8(start + name, folder)


def _utf8(name: str, folder: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(folder).decode(errors="replace")
        raise UserError(
            f"{shown} holds a file whose path is not UTF-8 ({os.fsencode(name)!r}); rename it."
        ) from None
    return name


def _is_file(path: str, dangling: bool) -> bool:
    if os.path.isfile(path):
        return True
    return dangling and os.path.islink(path) and not os.path.exists(path)
