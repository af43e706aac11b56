"""Splits as a file of ids, which a later run, or another program, can be given."""

import csv
import pathlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from data import tables, texts
from data.errors import UserError, reason
from data.records import Records
from data.sources import Source
from data.splits import Splits, check_disjoint

FLAG = "--config.data.splits_file"
NAMES = ("train", "unlabelled", "val", "test", "imported")
# Which of a source's own splits each may come from, the first that is there.
_FROM = {name: (name, "train", "all") for name in NAMES}


def write(path: pathlib.Path, splits: Splits) -> None:
    """Write which split every image is in: a Parquet table of columns id and split."""
    schema = pa.schema([("id", pa.string()), ("split", pa.string())])
    with tables.parquet_writer(path, schema) as writer:
        for name in NAMES:
            for ids in texts.blocks(getattr(splits, name).ids):
                columns = [ids.tolist(), [name] * len(ids)]
                writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema))


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Ids [n] of every split, from a table of columns id and split, Parquet or CSV in UTF-8.

    Raises:
        UserError: no such file or columns, an unknown split, or an id that comes twice.
    """
    if not path.is_file():
        raise UserError(f"{FLAG}={path} does not exist; mend the path.")
    if path.suffix == ".parquet":
        columns = tables.read_parquet(path)
    else:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                rows = list(reader)
        except (OSError, csv.Error, UnicodeDecodeError) as error:
            raise UserError(
                f"{path} is no readable table ({reason(error)}); save it as CSV in UTF-8 or as "
                "Parquet."
            ) from None
        names = reader.fieldnames or ()
        columns = {name: np.array([row[name] or "" for row in rows], np.str_) for name in names}
    if missing := [name for name in ("id", "split") if name not in columns]:
        raise UserError(f"{path} has no column '{missing[0]}'; write one id and split per row.")
    ids, splits = columns["id"].astype(np.str_), columns["split"].astype(np.str_)
    if wrong := sorted(set(splits.tolist()) - set(NAMES)):
        raise UserError(f"{path} has a split '{wrong[0]}'; use {', '.join(NAMES)}.")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise UserError(f"{path} has the id '{unique[counts.argmax()]}' twice; keep one row.")
    return {name: ids[splits == name] for name in NAMES}


def apply(source: Source, path: pathlib.Path, ids: Mapping[str, np.ndarray]) -> Splits:
    """The splits that a file says; images it does not name are left out.

    Raises:
        UserError: an id the source does not have or has in another split of its own, a group in two
            splits, a class without images in one, val or test images without a label, or synthetic
            images elsewhere than in imported.
    """
    parts = {name: _part(source, path, name, ids[name]) for name in NAMES}
    named = {name: part for name, part in parts.items() if name in ("val", "test")}
    # Images without labels are trained on as well, so patients may be on both sides of that line.
    check_disjoint(str(path), {"train": parts["train"], **named})
    check_disjoint(str(path), {"unlabelled": parts["unlabelled"], **named})
    imported = ("imported",) if len(parts["imported"]) else ()
    for name in ("train", "val", "test", *imported):
        labels = parts[name].labels
        missing = np.setdiff1d(np.arange(len(source.class_names)), labels)
        if missing.size or (labels < 0).any():
            lacks = source.class_names[missing[0]] if missing.size else "a label for each image"
            raise UserError(
                f"{path}: its {name} split lacks '{lacks}'; add images or another file."
            )
    return Splits(
        train=parts["train"],
        unlabelled=parts["unlabelled"].without_labels(),
        val=parts["val"],
        test=parts["test"],
        imported=parts["imported"],
    )


def _part(source: Source, path: pathlib.Path, name: str, ids: np.ndarray) -> Records:
    """The images of one split, in the order of the source."""
    own = next((split for split in _FROM[name] if split in source.splits), None)
    if own is None:
        raise UserError(f"{path}: {source.spec} has no images for {name}; mend {FLAG}.")
    records = source.splits[own]
    found = np.isin(records.ids, ids)
    if found.sum() < len(ids):
        lost = np.setdiff1d(ids, records.ids)[0]
        raise UserError(
            f"{path} has the id '{lost}' in {name}, {source.spec} not; mend {FLAG} or the source."
        )
    return records.subset(found)
