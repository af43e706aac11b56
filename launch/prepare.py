"""Prepares the data: opens the source, splits it, and writes the records all stages read.

python -m launch.prepare --config=configs/digits.py --workdir=runs/digits
"""

import json
import os
import pathlib

import ml_collections
import numpy as np

from data import fingerprint, records, sources, splits
from data.errors import UserError
from launch import cli, distributed, stage

SPLITS = ("train", "unlabelled", "val", "test")
# Where the source lies and how batches are made does not change the records; what it holds does.
_NOT_IN_RECORDS = ("source", "data_dir", "augment", "prefetch")


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/data`: one record set per split, with its counts in `stage.json`."""
    data = config.data
    settings = {k: v for k, v in data.to_dict().items() if k not in _NOT_IN_RECORDS}
    known = stage.read(workdir, "data")
    try:
        settings["fingerprint"] = fingerprint.fingerprint(data.source)
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
        return workdir / "data"
    source = sources.open_source(
        data.source,
        data_dir=data.data_dir or _tfds_folder(),
        size=data.size,
        channels=data.channels,
    )
    made = splits.make_splits(
        source,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        real_per_class=data.real_per_class,
        per_class=_per_class(data.per_class),
        unlabelled=data.unlabelled,
        seed=data.seed,
    )
    parts = {name: getattr(made, name) for name in SPLITS if len(getattr(made, name))}
    records.write_records(begun.folder, parts, name="real", description=f"from {data.source}")
    counts = {name: _counts(part) for name, part in parts.items()}
    for name, count in counts.items():
        cli.say(f"data: {name}: " + ", ".join(f"{k} {v}" for k, v in count.items()))
    begun.finish(counts=counts, digest=made.digest(), class_names=list(made.train.class_names))
    return begun.folder


def open_split(workdir: pathlib.Path, split: str) -> records.Records:
    """Opens the records of one split of a prepared work directory."""
    stage.require(workdir, "data")
    return records.open_records(workdir / "data", split)


def _tfds_folder() -> str:
    return os.environ.get("TFDS_DATA_DIR", os.path.expanduser("~/tensorflow_datasets"))


def _counts(part: records.Records) -> dict[str, int]:
    """Images per class; those without a label count as "unlabelled"."""
    found = {name: int(np.sum(part.labels == k)) for k, name in enumerate(part.class_names)}
    missing = int(np.sum(part.labels < 0))
    return {"unlabelled": missing} if missing else found


def _per_class(text: str) -> dict[str, int]:
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
