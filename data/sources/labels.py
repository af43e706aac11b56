"""Which label each file of a folder has: from class folders, or from a table."""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data import marks
from data.errors import UserError, reason
from data.folders import file_names
from data.sources.entries import Files, collect
from data.sources.raw import FLAG, SPLITS, Entry

_COLUMNS = ("file", "label", "patient", "site", "split", "mask")


# Names of files below a folder, '/' between their parts, in order.
Find = Callable[[pathlib.Path], Iterable[str]]


def entries(root: pathlib.Path, find: Find, table: str, kind: str) -> tuple[Files, list[str]]:
    """Files with their labels, and the class names in label order.

    Without a table the files lie in ROOT/<class>/… or ROOT/<split>/<class>/…. The file
    ROOT/class_names.txt, one name per line, fixes the order of the classes.

    Args:
        root: folder of the source.
        find: lists the files below a folder that are images of the source's kind.
        table: CSV or Parquet file, or '' for class folders; `docs/data.md` explains its columns.
        kind: of the source; used in messages.

    Raises:
        UserError: no such folder or table, files and rows that don't match, or an empty class.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder; give one with {FLAG}={kind}:PATH.")
    if table:
        return _from_table(root, find, pathlib.Path(table).expanduser())
    return _from_folders(root, find)


def marked(entry: Entry, root: pathlib.Path) -> Entry:
    """The entry with a name that says so, if its file, one of them, or its row does."""
    if any(
        marks.says_yes(one.columns.get("synthetic")) or marks.of_file(pathlib.Path(one.file), root)
        for one in entry.slices or (entry,)
    ):
        return dataclasses.replace(entry, name=marks.PREFIX + entry.name)
    return entry


def visible_files(folder: pathlib.Path) -> Iterator[str]:
    """Names of all files below a folder, folder by folder, without hidden ones."""
    # A link that leads nowhere is to be listed as unreadable.
    return file_names(folder, hidden=False, dangling=True)


# --- class folders -------------------------------------------------------------------------------


def _from_folders(root: pathlib.Path, find: Find) -> tuple[Files, list[str]]:
    splits = {SPLITS[child.name]: child for child in _subfolders(root) if child.name in SPLITS}
    splits = splits or {"all": root}
    names = _listed_names(root) or sorted(
        {child.name for folder in splits.values() for child in _subfolders(folder)}
    )
    if not names:
        raise UserError(
            f"{root} has no class folders; put the images of each class into one, or give a table "
            "with --config.data.labels."
        )

    def rows() -> Iterator[dict[str, Any]]:
        for split, folder in splits.items():
            for label, name in enumerate(names):
                below, file = (folder / name).relative_to(root).as_posix(), None
                for file in find(folder / name):
                    yield {"name": f"{below}/{file}", "label": label, "split": split}
                if file is None:
                    raise UserError(
                        f"{folder / name} holds no images; class '{name}' is empty: "
                        "add some or leave the class out."
                    )

    return collect(str(root), rows()), names


def _subfolders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listed_names(root: pathlib.Path) -> list[str]:
    """Class names as listed in class_names.txt; empty where there is no such file."""
    listing = root / "class_names.txt"
    if not listing.is_file():
        return []
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{listing} can't be read ({reason(error)}); save it in UTF-8.") from None
    return [line.strip() for line in lines if line.strip()]


# --- table ---------------------------------------------------------------------------------------


def _from_table(
    root: pathlib.Path, find: Find, table: pathlib.Path
) -> tuple[list[Entry], list[str]]:
    rows: dict[str, list[dict[str, str]]] = {}
    for row in _read_table(table):
        rows.setdefault(row["file"], []).append(row)
    masks = {_normal(row["mask"]) for same in rows.values() for row in same if row["mask"]}
    _complain(
        [mask for mask in sorted(masks) if not _below(root, mask)],
        f"{table}: {{count}} of its masks are missing below {root}, the first is '{{first}}'; "
        "mend the column or leave it out.",
    )
    # A row may name a file too damaged to be found by its content; it is then listed as unreadable.
    named = [name for name in rows if _below(root, name)]
    matches = {
        name: [row for prefix in _prefixes(name) for row in rows.get(prefix, ())]
        for name in sorted({*find(root), *named} - masks)
    }
    used = {row["file"] for found in matches.values() for row in found}
    _complain(
        [name for name in rows if name not in used],
        f"{table}: {{count}} of its rows match no image below {root}, the first has file "
        "'{first}'; mend the path or remove the row.",
    )
    _complain(
        [name for name, found in matches.items() if not found],
        f"{table} has no row for {{count}} of the images below {root}, the first is '{{first}}'; "
        "add a row, name it as a mask, or move the file elsewhere.",
    )
    _complain(
        [name for name, found in matches.items() if len(_all(found, "label")) > 1],
        f"{table} gives {{count}} of the images below {root} two labels, the first is '{{first}}'; "
        "keep one row for each file.",
    )
    splits = {name: _split(_first(found, "split"), table) for name, found in matches.items()}
    if len(set(splits.values())) > 1:
        _complain(
            [name for name, split in splits.items() if split == "all"],
            f"{table} gives no split to {{count}} of the images below {root}, the first is "
            "'{first}'; give one to all or to none.",
        )
    names = _class_names(root, {x for found in matches.values() for x in _all(found, "label")})
    further = [key for key in next(iter(rows.values()))[0] if key not in _COLUMNS]
    found = []
    for name, matching in matches.items():
        label = _first(matching, "label")
        found.append(
            Entry(
                file=f"{root}/{name}",
                name=name,
                label=names.index(label) if label else -1,
                split=splits[name],
                patient=_first(matching, "patient"),
                site=_first(matching, "site"),
                columns={key: _first(matching, key) for key in further},
            )
        )
    return found, names


def _below(root: pathlib.Path, name: str) -> bool:
    """Whether a path in a table is a file below the root, and not one elsewhere."""
    path = pathlib.PurePosixPath(name)
    try:
        return not path.is_absolute() and ".." not in path.parts and (root / name).is_file()
    except OSError:  # such as a name that is too long
        return False


def _read_table(table: pathlib.Path) -> list[dict[str, str]]:
    """Rows {column: text} of a table of labels; a value that isn't there is ''."""
    if not table.is_file():
        raise UserError(f"--config.data.labels={table} does not exist; mend the path.")
    rows = [dict.fromkeys(_COLUMNS, "") | row for row in read_rows(table, ("file", "label"))]
    for row in rows:
        row["file"] = _normal(row["file"])
    return rows


def read_rows(table: pathlib.Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows {column: text} of a CSV or Parquet table with the columns ``needed``, file among them.

    Raises:
        UserError: no such table, no rows, a column that isn't there, or a row without a file.
    """
    if not table.is_file():
        raise UserError(f"{table} does not exist; mend the path.")
    try:
        raw: list[dict[str, Any]]
        if table.suffix == ".parquet":
            # Read as a file: a folder named patient=… must not become a column.
            with pq.ParquetFile(table) as file:
                columns, raw = file.schema_arrow.names, file.read().to_pylist()
        else:
            with table.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                raw = list(reader)
                columns = list(reader.fieldnames or ())
    except (pa.ArrowInvalid, OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{table} is no readable table ({reason(error)}); save it as CSV in UTF-8 or as "
            "Parquet."
        ) from None
    for name in needed:
        if name not in columns:
            raise UserError(
                f"{table} has no column '{name}' (it has {', '.join(map(str, columns))}); add it."
            )
    rows = [{key: _text(row.get(key)) for key in columns} for row in raw]
    if not rows:
        raise UserError(f"{table} has no rows; add one for each image.")
    for number, row in enumerate(rows, 1):
        if not row["file"]:
            raise UserError(f"{table}: row {number} names no file; give its path or remove it.")
    return rows


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _normal(path: str) -> str:
    return pathlib.PurePosixPath(path.replace("\\", "/")).as_posix()


def _prefixes(name: str) -> Iterator[str]:
    """The name and all its beginnings that end at the edge of a word, longest first.

    So a row for 'scan1' counts for 'scan1.nii.gz', 'scan1_flair.nii' and 'scan1/0001.dcm', but not
    for 'scan10.nii.gz'.
    """
    yield name
    for end in range(len(name) - 1, 0, -1):
        if not (name[end - 1].isalnum() and name[end].isalnum()):
            yield name[:end]


def _all(rows: Iterable[dict[str, str]], column: str) -> set[str]:
    return {row[column] for row in rows if row[column]}


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
        f"{root / 'class_names.txt'} lacks {{count}} of the labels, the first is '{{first}}'; "
        "add it.",
    )
    return listed or sorted(labels, key=lambda x: (not x.isdecimal(), int(x.isdecimal() and x), x))


def _complain(names: Sequence[str], sentence: str) -> None:
    """Raise a UserError if there are names; `sentence` has places for {count} and {first}."""
    if names:
        # not str.format: paths may hold braces
        text = sentence.replace("{count}", str(len(names))).replace("{first}", names[0])
        raise UserError(text)
