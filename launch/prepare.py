"""Prepares the data: opens the source, splits it, and writes the records all stages read.

python -m launch.prepare --config=configs/digits.py --workdir=runs/digits
"""

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import ml_collections
import numpy as np

from data import fingerprint, record_writer, records, shards, sources, split_files, splits, tables
from data.errors import UserError
from launch import cli, distributed, stage

SPLITS = split_files.NAMES
IMPORTED = "imported"  # synthetic images of the source
MASKS = "masks"  # folder of record sets
# Where the source lies, who reads it and how batches are made does not change the records; what it
# holds does.
_NOT_IN_RECORDS = (
    "source", "data_dir", "augment", "prefetch", "labels", "max_unreadable", "workers",
)  # fmt: skip
# Settings that only some kinds of source look at; they count for those alone.
_AXIS, _STRIDE, _SALT = ("nifti",), ("video",), ("dicom", "nifti", "video")
# Hidden in the folder until the stage is finished: images as read, and what `stage.json` will say.
_SPOOL, _FACTS = ".spool", ".facts.json"
# What another version of the program left unfinished is begun again if it is laid out otherwise.
_LAYOUT = "layout 5"


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/data`: one record set per split, with its counts in `stage.json`."""
    data = config.data
    settings = _settings(data)
    known = stage.read(workdir, "data")
    try:
        settings["fingerprint"] = fingerprint.fingerprint(data.source, data.labels)
    except UserError:
        # The records are complete without the source, e.g. on another machine.
        if known is None or known["status"] != "complete":
            raise
        settings["fingerprint"] = known["config"]["fingerprint"]
        cli.say(f"data: {data.source} is not there; using what {workdir / 'data'} has of it")
    # Records are written whole or not at all: an unfinished folder holds nothing to protect.
    unfinished = known is not None and known["status"] != "complete"
    begun = stage.begin(workdir, "data", settings, overwrite=overwrite or unfinished)
    if begun is None:
        _clear(workdir / "data")  # here, for a run that was killed after it had finished the stage
        return workdir / "data"
    folder = begun.folder
    # A run killed once the records were in their place, but before its stage was finished, left it.
    key = f"{begun.digest} {_LAYOUT} {fingerprint.stamp(data.source)}"
    if not tables.has_key(folder, key):
        with tables.resumable_dir(folder, key) as aside:
            facts = _make(data, aside, folder)
            tables.write_json(aside / _FACTS, facts)
    begun.finish(**tables.read_json(folder / _FACTS))
    _clear(folder)
    return folder


def _make(
    data: ml_collections.ConfigDict, aside: pathlib.Path, folder: pathlib.Path
) -> dict[str, Any]:
    """Reads the source and writes its records into `aside`, or what is missing of them there.

    Args:
      data: section of the configuration.
      aside: takes the records.
      folder: of the stage; takes the list of unreadable files where they are too many.

    Returns:
      What `stage.json` says of the records.
    """
    try:
        source = sources.open_source(
            data.source,
            data_dir=data.data_dir or tfds_folder(),
            size=data.size,
            channels=data.channels,
            spool=aside / _SPOOL,
            options=source_options(data),
            processes=data.workers,
        )
    except sources.UnreadableError as error:
        tables.write_json(folder / "unreadable.json", error.unreadable)
        cli.say(f"data: all files that can't be read: {folder / 'unreadable.json'}")
        raise
    made = _split(data, source)
    source.spool.range_of(made.train)
    parts = {name: getattr(made, name) for name in SPLITS if len(getattr(made, name))}
    record_writer.fill(
        aside,
        parts,
        name="real",
        description=f"from {data.source}",
        shard_rows=record_writer.SHARD_ROWS,
    )
    _write_masks(data, source, parts, aside)
    split_files.write(aside / "splits.parquet", made)
    facts = _tell(source, aside, folder)
    counts = {name: _counts(part) for name, part in parts.items()}
    for name, count in counts.items():
        cli.say(f"data: {name}: " + ", ".join(f"{k} {v}" for k, v in count.items()))
    names = list(made.train.class_names)
    return {"counts": counts, **facts, "digest": made.digest(), "class_names": names}


def _write_masks(
    data: ml_collections.ConfigDict,
    source: sources.Source,
    parts: dict[str, records.Records],
    aside: pathlib.Path,
) -> None:
    """Writes the masks of the images that have one as record sets of their own."""
    masks = {name: source.spool.masks(part) for name, part in parts.items()}
    masks = {name: found for name, found in masks.items() if found is not None}
    if not masks:
        return
    (aside / MASKS).mkdir(exist_ok=True)
    record_writer.fill(
        aside / MASKS,
        masks,
        name="masks",
        description=f"masks from {data.source}",
        shard_rows=record_writer.SHARD_ROWS,
    )
    cli.say("data: masks: " + ", ".join(f"{name} {len(found)}" for name, found in masks.items()))


def _split(data: ml_collections.ConfigDict, source: sources.Source) -> splits.Splits:
    """The sets of the run: as a file says, or drawn."""
    if data.splits_file:
        path = pathlib.Path(data.splits_file).expanduser()
        return split_files.apply(source, path, split_files.read(path))
    return splits.make_splits(
        source,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        real_per_class=data.real_per_class,
        per_class=per_class(data.per_class),
        unlabelled=data.unlabelled,
        folds=data.folds,
        fold=data.fold,
        seed=data.seed,
    )


def _clear(folder: pathlib.Path) -> None:
    """Deletes what only records in the making need, if it is there."""
    tables.remove_replaced(folder)
    for part in (folder, folder / MASKS):
        record_writer.clear(part)
    shutil.rmtree(folder / _SPOOL, ignore_errors=True)
    for name in (_FACTS, tables.KEY):
        (folder / name).unlink(missing_ok=True)


def open_split(workdir: pathlib.Path, split: str) -> records.Records:
    """Opens the records of one split of a prepared work directory.

    Raises:
      UserError: the stage is not finished, or a split other than `imported` holds synthetic images.
    """
    stage.require(workdir, "data")
    found = records.open_records(workdir / "data", split)
    if found.synthetic and split != IMPORTED:
        raise UserError(
            f"{workdir / 'data'} has synthetic images among those of '{split}'; run "
            "launch.prepare with --overwrite, which puts them apart."
        )
    return found


def open_masks(workdir: pathlib.Path, split: str) -> records.Records | None:
    """Opens the masks of a split: records `[H, W, 1]` uint8 with the ids of their images.

    Images without a mask are not among them; None where none has one.
    """
    stage.require(workdir, "data")
    folder = workdir / "data" / MASKS
    return records.open_records(folder, split) if shards.has_split(folder, split) else None


def masks_of(workdir: pathlib.Path, split: str, part: records.Records) -> records.Records | None:
    """The masks of a split, in the order of its records; None where none has one.

    Args:
      workdir: work directory.
      split: name of the split.
      part: its records.

    Raises:
      UserError: an image without a mask, where others have one.
    """
    masks = open_masks(workdir, split)
    if masks is None:
        return None
    row_of = {str(id_): row for row, id_ in enumerate(masks.ids)}
    missing = [str(id_) for id_ in part.ids if str(id_) not in row_of]
    if missing:
        raise UserError(
            f"{len(missing)} images have no mask, '{missing[0]}' among them; give every image one, "
            "black where there is no lesion, and prepare them again"
        )
    return masks.subset(np.array([row_of[str(id_)] for id_ in part.ids]))


def slices_of(workdir: pathlib.Path, part: records.Records) -> np.ndarray | None:
    """Where each slice of a split lies in its volume, float64 [N]; None unless all say it."""
    known = tables.read_parquet(workdir / "data" / "intensity.parquet")
    if "slice_index" not in known:  # records of before it was kept
        return None
    slice_of = dict(zip(known["id"].tolist(), known["slice_index"].tolist(), strict=True))
    found = np.array([slice_of[str(id_)] for id_ in part.ids], np.float64)
    return found if np.isfinite(found).all() else None


def _settings(data: ml_collections.ConfigDict) -> dict[str, Any]:
    """What the records depend on besides the source; the salt itself is kept nowhere."""
    settings = {k: v for k, v in data.to_dict().items() if k not in _NOT_IN_RECORDS}
    kind = data.source.partition(":")[0]
    salt = settings.pop("salt")
    if kind in _SALT or data.labels:
        settings["salt_digest"] = hashlib.sha256(f"salt\0{salt}".encode()).hexdigest()[:16]
    if not settings["attributes"]:
        del settings["attributes"]
    if settings["synthetic"] == "refuse":  # then there are none
        del settings["synthetic"]
    if path := settings.pop("splits_file"):
        ids = split_files.read(pathlib.Path(path).expanduser())
        text = json.dumps({name: sorted(ids[name].tolist()) for name in ids})
        settings["splits_digest"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    volumes = settings["axis"] == sources.VOLUME
    if kind not in _AXIS and not volumes:
        del settings["axis"]
    if not volumes:
        del settings["depth"]
    if kind not in _STRIDE:
        del settings["stride"]
    return settings


def _tell(source: sources.Source, aside: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """Writes and says what became of the files of a source; returns it for `stage.json`."""
    source.spool.write_originals(aside / "intensity.parquet")
    report = source.report
    if report is None:
        return {}
    tables.write_json(aside / "unreadable.json", report.unreadable)
    if report.unreadable:
        where = folder / "unreadable.json"
        cli.say(f"data: {len(report.unreadable)} of {report.files} files not read: see {where}")
    if report.blank:
        cli.say(f"data: {report.blank} blank slices left out")
    if report.more_volumes:
        cli.say(f"data: {report.more_volumes} files have several volumes; the first is read")
    return {
        "files": report.files,
        "unreadable": len(report.unreadable),
        "blank_slices": report.blank,
        "first_volume_of_several": report.more_volumes,
        "sites": dict(report.sites),
    }


def source_options(data: ml_collections.ConfigDict) -> sources.Options:
    """How a source is read, from the section of the configuration."""
    return sources.Options(
        labels=data.labels,
        attributes=data.attributes,
        axis=data.axis,
        depth=data.depth,
        stride=data.stride,
        salt=data.salt,
        max_unreadable=data.max_unreadable,
        preprocess=data.preprocess,
        synthetic=data.synthetic,
    )


def tfds_folder() -> str:
    """Where tfds keeps data sets unless `data.data_dir` says otherwise."""
    return os.environ.get("TFDS_DATA_DIR", os.path.expanduser("~/tensorflow_datasets"))


def _counts(part: records.Records) -> dict[str, int]:
    """Images per class; those without a label count as "unlabelled"."""
    found = {name: int(np.sum(part.labels == k)) for k, name in enumerate(part.class_names)}
    missing = int(np.sum(part.labels < 0))
    return {"unlabelled": missing} if missing else found


def per_class(text: str) -> dict[str, int]:
    """The counts of `config.data.per_class`, by names or numbers of classes.

    Raises:
      UserError: the text is not JSON of such.
    """
    if not text:
        return {}
    try:
        value = json.loads(text)
        return {str(k): int(v) for k, v in value.items()}
    except (json.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"--config.data.per_class={text!r} is not JSON of class names and counts; "
            """write for example '{"viral": 10}'"""
        ) from error


if __name__ == "__main__":
    cli.start(run)
