"""Which label each file of a folder has: from class folders, or from a table."""

import dataclasses
import itertools
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from data import marks, tables, texts
from data.errors import UserError, reason
from data.folders import CLASS_NAMES, as_text, file_names, subfolders
from data.sources.entries import PATH, Files, collect
from data.sources.label_table import LabelTable
from data.sources.raw import FLAG, SPLITS, Entry

_KEPT = ("patient", "site", "mask")
_BLOCK = 1 << 12

# Names of files below a folder, '/' between their parts, in order.
Find = Callable[[pathlib.Path], Iterable[str]]


def entries(
    root: pathlib.Path, find: Find, table: str, kind: str, folder: pathlib.Path
) -> tuple[Files, list[str]]:
    """Files with their labels, and the class names in label order.

    Without a table the files lie in ROOT/<class>/… or ROOT/<split>/<class>/…. The file
    ROOT/class_names.txt, one name per line, fixes the order of the classes.

    Args:
        root: folder of the source.
        find: lists the files below a folder that are images of the source's kind.
        table: CSV or Parquet file, or '' for class folders; `docs/data.md` explains its columns.
        kind: of the source; used in messages.
        folder: takes what is known of the files.

    Raises:
        UserError: no such folder or table, files and rows that don't match, or an empty class.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder; give one with {FLAG}={kind}:PATH.")
    if table:
        return _from_table(root, find, pathlib.Path(table).expanduser(), folder)
    return _from_folders(root, find, kind, folder)


def marked(entry: Entry, root: pathlib.Path) -> Entry:
    """The entry with a name that says so, if its file, one of them, or its row does."""
    if any(
        marks.says_yes(one.columns.get("synthetic")) or marks.of_file(pathlib.Path(one.file), root)
        for one in entry.slices or (entry,)
    ):
        return dataclasses.replace(entry, name=marks.PREFIX + entry.name)
    return entry


def visible_files(folder: pathlib.Path, counts: Callable[[str], bool]) -> Iterator[str]:
    """Names in UTF-8 of the files below a folder that count, folder by folder, without hidden ones.

    What can't be read is there too, for the list of unreadable files; see `data.folders`.
    """
    found = file_names(folder, hidden=False, unreadable=True)
    return (as_text(name) for name in found if name.endswith("/") or counts(name))


# --- class folders -------------------------------------------------------------------------------


def _from_folders(
    root: pathlib.Path, find: Find, kind: str, aside: pathlib.Path
) -> tuple[Files, list[str]]:
    splits = {SPLITS[child.name]: child for child in subfolders(root) if child.name in SPLITS}
    splits = splits or {"all": root}
    names = _listed_names(root) or sorted(
        {child.name for folder in splits.values() for child in subfolders(folder)}
    )
    if not names:
        raise UserError(
            f"{root} has no class folders; put the images of each class into one, or give a table "
            "with --config.data.labels."
        )
    _complain(
        [as_text(name) for name in names if as_text(name) != name],
        f"{root}: {{count}} of its class folders have names that are not UTF-8, the first is "
        "'{first}'; rename them.",
    )

    def rows() -> Iterator[dict[str, Any]]:
        for split, folder in splits.items():
            for label, name in enumerate(names):
                below, file = (folder / name).relative_to(root).as_posix(), None
                for file in find(folder / name):
                    yield {PATH: f"{below}/{file}", "label": label, "split": split}
                if file is None:
                    raise UserError(
                        f"{folder / name} holds no files that {kind}: reads; class '{name}' is "
                        "empty: add some or leave the class out."
                    )

    return collect(str(root), rows(), aside), names


def _listed_names(root: pathlib.Path) -> list[str]:
    """Class names as listed in class_names.txt; empty where there is no such file."""
    listing = root / CLASS_NAMES
    if not listing.is_file():
        return []
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{listing} can't be read ({reason(error)}); save it in UTF-8.") from None
    return [line.strip() for line in lines if line.strip()]


# --- table ---------------------------------------------------------------------------------------


def _from_table(
    root: pathlib.Path, find: Find, path: pathlib.Path, aside: pathlib.Path
) -> tuple[Files, list[str]]:
    if not path.is_file():
        raise UserError(f"--config.data.labels={path} does not exist; mend the path.")
    table = LabelTable(path, aside)
    lost = _Complaint()
    for mask, _ in itertools.groupby(texts.in_order(filter(None, table.masks))):
        if not _below(root, mask):
            lost.add(mask)
    lost.say(
        f"{path}: {{count}} of its masks are missing below {root}, the first is '{{first}}'; "
        "mend the column or leave it out."
    )
    masks = texts.Lookup(table.masks)
    names = _class_names(root, set(table.values("label")))
    numbers, used = {name: k for k, name in enumerate(names)}, np.zeros(len(table.files), bool)
    nameless, twofold, unsplit = _Complaint(), _Complaint(), _Complaint()

    def rows() -> Iterator[dict[str, Any]]:
        for block in tables.in_blocks(_images(root, find, table.files), _BLOCK):
            masked = masks.rows(block)
            images = [name for name in block if name not in masked]
            for name, matching in zip(images, table.matches(images), strict=True):
                used[list(matching)] = True
                found = list(matching.values())
                if not found and name.endswith("/"):
                    continue  # a folder that can't be listed and that no row names: lost+found
                if not found:
                    nameless.add(name)
                if len({row["label"] for row in found if row["label"]}) > 1:
                    twofold.add(name)
                split = _split(_first(found, "split"), path)
                if split == "all":
                    unsplit.add(name)
                known = {key: _first(found, key) for key in (*_KEPT, *table.further)}
                label = numbers.get(_first(found, "label"), -1)
                yield {PATH: name, "label": label, "split": split, **known}

    files = collect(str(root), rows(), aside, ("mask", *table.further))
    _complain(
        table.files[~used].tolist(),
        f"{path}: {{count}} of its rows match no image below {root}, the first has file "
        "'{first}'; mend the path or remove the row.",
    )
    nameless.say(
        f"{path} has no row for {{count}} of the images below {root}, the first is '{{first}}'; "
        "add a row, name it as a mask, or move the file elsewhere."
    )
    twofold.say(
        f"{path} gives {{count}} of the images below {root} two labels, the first is '{{first}}'; "
        "keep one row for each file."
    )
    if unsplit.count < len(files):
        unsplit.say(
            f"{path} gives no split to {{count}} of the images below {root}, the first is "
            "'{first}'; give one to all or to none."
        )
    return files, names


def _images(root: pathlib.Path, find: Find, named: texts.Texts) -> Iterator[str]:
    """What is found below the root, and what the table names there, in the order of their names.

    A row may name a file too damaged to be found by its content; it is then listed as unreadable.
    """
    both = itertools.chain(find(root), (name for name in named if _below(root, name)))
    return (name for name, _ in itertools.groupby(texts.in_order(both)))


@dataclasses.dataclass
class _Complaint:
    """Files of which something is wrong: how many, and the first."""

    count: int = 0
    first: str = ""

    def add(self, name: str) -> None:
        self.count, self.first = self.count + 1, self.first or name

    def say(self, sentence: str) -> None:
        """Raise a UserError if there are any; `sentence` has places for {count} and {first}."""
        if self.count:
            # not str.format: paths may hold braces
            text = sentence.replace("{count}", str(self.count)).replace("{first}", self.first)
            raise UserError(text)


def _below(root: pathlib.Path, name: str) -> bool:
    """Whether a path in a table is a file below the root, and not one elsewhere."""
    path = pathlib.PurePosixPath(name)
    try:
        inside = not path.is_absolute() and ".." not in path.parts
        return inside and stat.S_ISREG(os.stat(root / name).st_mode)
    except PermissionError:  # it may be there, and is then listed as unreadable
        return True
    except (OSError, ValueError):  # such as a name that is too long, or holds a zero byte
        return False


def _first(rows: Iterable[dict[str, str]], column: str) -> str:
    """What the most specific row says that says anything."""
    return next((row[column] for row in rows if row[column]), "")


def _split(name: str, table: pathlib.Path) -> str:
    if name and name not in SPLITS:
        raise UserError(f"{table} has a split '{name}'; use train, val and test.")
    return SPLITS[name] if name else "all"


def _class_names(root: pathlib.Path, labels: set[str]) -> list[str]:
    """Names in label order: as listed in class_names.txt, otherwise sorted, numbers as numbers."""
    listed = _listed_names(root)
    _complain(
        sorted(labels - set(listed)) if listed else [],
        f"{root / CLASS_NAMES} lacks {{count}} of the labels, the first is '{{first}}'; add it.",
    )
    return listed or sorted(labels, key=lambda x: (not x.isdecimal(), int(x.isdecimal() and x), x))


def _complain(names: Sequence[str], sentence: str) -> None:
    """Raise a UserError if there are names, see `_Complaint.say`."""
    if names:
        _Complaint(len(names), names[0]).say(sentence)
