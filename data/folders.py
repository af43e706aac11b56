"""The files below a folder, by name: text, so that a million of them fit into memory."""

import os
import pathlib


def file_names(folder: pathlib.Path, *, hidden: bool) -> list[str]:
    """Names of all files below a folder, '/' between their parts, part by part in order.

    Args:
        folder: where to look; links to folders are not followed.
        hidden: whether files and folders that begin with a dot count.
    """

    def counts(name: str) -> bool:
        return hidden or not name.startswith(".")

    found = []
    for where, folders, files in os.walk(folder):
        folders[:] = filter(counts, folders)
        below = pathlib.PurePath(where).relative_to(folder).as_posix()
        start = "" if below == "." else f"{below}/"
        found += [start + x for x in files if counts(x) and os.path.isfile(os.path.join(where, x))]
    found.sort(key=lambda name: name.replace("/", "\0"))
    return found
