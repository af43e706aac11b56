"""The files below a folder, by name: text, so that a million of them fit into memory."""

import os
import pathlib


def file_names(folder: pathlib.Path, *, hidden: bool, dangling: bool = False) -> list[str]:
    """Names of all files below a folder, '/' between their parts, part by part in order.

    Args:
        folder: where to look; links to folders are not followed.
        hidden: whether files and folders that begin with a dot count.
        dangling: whether links that lead nowhere count.
    """

    def counts(name: str) -> bool:
        return hidden or not name.startswith(".")

    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = filter(counts, folders)
        below = pathlib.PurePath(where).relative_to(folder).as_posix()
        start = "" if below == "." else f"{below}/"
        found += [
            start + x for x in files if counts(x) and _is_file(os.path.join(where, x), dangling)
        ]
    found.sort(key=lambda name: name.replace("/", "\0"))
    return found


def _is_file(path: str, dangling: bool) -> bool:
    if os.path.isfile(path):
        return True
    return dangling and os.path.islink(path) and not os.path.exists(path)
