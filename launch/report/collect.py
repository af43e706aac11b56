"""Reads a finished work directory into plain arrays and dicts, checked against each other."""

import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from data import pools, tables
from data.errors import UserError
from data.records import Records, open_records
from launch import annotate, stage
from launch.report import detection
from vrn import labels

POOLS = ("first", "second")
# Stages whose training curves are shown, beside the generator's.
TRAINED = ("features", "vrn")
# Each stage keeps the embeddings of the images it looked at.
_EMBEDDED = ("features", "annotation", "filter")


@dataclasses.dataclass(frozen=True)
class Filtered:
    """What one filter says about the second pool.

    Attributes:
      score: float [N], higher = keep.
      kept: bool [N].
    """

    score: np.ndarray
    kept: np.ndarray


@dataclasses.dataclass(frozen=True)
class Arm:
    """Target models of one arm.

    Attributes:
      choice: content of choice.json.
      seeds: names of the seed folders, ascending.
      outcomes: per seed, probs [N_test, K] and labels [N_test].
    """

    choice: dict[str, Any]
    seeds: tuple[int, ...]
    outcomes: list[tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Found:
    """Everything the report is made of.

    Attributes:
      stages: stage name to its `stage.json`, in running order.
      class_names: K names.
      real: split to real images; `unlabelled` only where the run has it.
      pools: `first` and `second`.
      embeddings: split or pool to float [N, F], rows in record order.
      verdict: int [N_first], 1 real-like, 0 non-real-like, -1 not annotated.
      ratings: rater to (int [N_first] as `verdict`, score float [N_first], NaN where unrated).
      filters: filter name to what it says.
      calibration: content of vrn/calibration.json.
      arms: arm name to its models, in the order of the configuration.
      curves: trained stage to (metric to (steps, values)).
      sheets: files of the generator's samples, by step.
      detection: what maps of disease do; empty where `launch.evaluate` was not called.
      review: what the raters of a study say, as `launch.review` wrote it; None where it did not.
    """

    stages: dict[str, dict[str, Any]]
    class_names: tuple[str, ...]
    real: dict[str, Records]
    pools: dict[str, pools.Pool]
    embeddings: dict[str, np.ndarray]
    verdict: np.ndarray
    ratings: dict[str, tuple[np.ndarray, np.ndarray]]
    filters: dict[str, Filtered]
    calibration: dict[str, Any]
    arms: dict[str, Arm]
    curves: dict[str, dict[str, tuple[list[float], list[float]]]]
    sheets: list[pathlib.Path]
    review: dict[str, Any] | None
    detection: dict[str, detection.Judged]


@dataclasses.dataclass(frozen=True)
class Translated:
    """What the report of a translator without the loop is made of.

    Attributes:
      stages: stage name to its `stage.json`.
      train: the training images.
      detection: as of `Found`.
      curves: metric to (steps, values).
      sheets: files of translated images, by step.
    """

    stages: dict[str, dict[str, Any]]
    train: Records
    detection: dict[str, detection.Judged]
    curves: dict[str, tuple[list[float], list[float]]]
    sheets: list[pathlib.Path]


def read_translator(workdir: pathlib.Path) -> Translated:
    """Reads a work directory of which only the translator and its maps count.

    Raises:
      UserError: as `read`.
    """
    folder = workdir / "translator"
    stages = {name: stage.require(workdir, name) for name in ("data", "translator")}
    judged = detection.read(workdir)
    if "translator" not in judged:
        raise UserError(
            f"{workdir / 'evaluation' / 'detection.json'} is missing; run `python -m "
            "launch.evaluate` with the same --config and --workdir first"
        )
    return Translated(
        stages=stages,
        train=open_records(workdir / "data", "train"),
        detection=judged,
        curves=_curves(folder / "metrics.jsonl"),
        sheets=sorted((folder / "samples").glob("*.png")),
    )


def read(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> Found:
    """Reads and checks a work directory.

    Raises:
      UserError: a stage is missing or unfinished, or a file is damaged or of other images; the
        message names the folder or file and the program to run.
    """
    needed = stage.of_loop(config.generate.generator)[:-1]
    stages = {name: stage.require(workdir, name) for name in needed}
    splits = ["train", "val", "test"]
    if "unlabelled" in stages["data"].get("facts", {}).get("counts", {}):
        splits.append("unlabelled")
    real = {split: open_records(workdir / "data", split) for split in splits}
    opened = {name: pools.open_pool(workdir / "pools" / name, hold=False) for name in POOLS}
    counts = {name: len(images) for name, images in (real | opened).items()}
    generator = config.generate.generator
    return Found(
        stages=stages,
        class_names=tuple(real["train"].class_names),
        real=real,
        pools=opened,
        embeddings=_embeddings(workdir, counts),
        verdict=annotate.verdicts(config, workdir),
        ratings=_ratings(workdir / "annotation" / "labels.parquet", opened["first"].ids),
        filters=_filters(workdir, opened["second"]),
        calibration=tables.read_json(workdir / "vrn" / "calibration.json"),
        arms={
            name: _arm(workdir, name, config.target.seeds, real["test"].labels)
            for name in config.target.arms
        },
        curves={name: _curves(workdir / name / "metrics.jsonl") for name in (generator, *TRAINED)},
        sheets=sorted((workdir / generator / "samples").glob("*.png")),
        review=review(workdir),
        detection=detection.read(workdir),
    )


# What is not a stage and may be said again: the reviewers' statistics, and what maps do.
SAID = ("review", "detection")


def said(workdir: pathlib.Path) -> dict[str, str]:
    """Digests of those of `SAID` that there are.

    Raises:
      UserError: what is said is damaged, or of a network that was trained again since.
    """
    known = dict(zip(SAID, (review(workdir), detection.said(workdir)), strict=True))
    return {name: tables.json_sha256(value) for name, value in known.items() if value}


def has_loop(workdir: pathlib.Path) -> bool:
    """Whether the loop was begun here, or else no translator was trained."""
    return any(stage.read(workdir, name) is not None for name in ("gan", "features")) or (
        stage.read(workdir, "translator") is None
    )


def review(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The statistics that `launch.review --stats` wrote; None where it was not called."""
    path = workdir / "review" / "statistics.json"
    return tables.read_json(path) if path.is_file() else None


def again(workdir: pathlib.Path, name: str) -> str:
    """How a sentence about a damaged stage ends: what to run."""
    return (
        f"delete {workdir / name} and run `python -m launch.{stage.PROGRAMS[name]}` "
        "with the same --config and --workdir"
    )


def _embeddings(workdir: pathlib.Path, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in _EMBEDDED:
        path = workdir / name / "embeddings.npz"
        if path.exists():
            found |= {k: v for k, v in _npz(path, workdir, name).items() if k in counts}
    for name, count in counts.items():
        if name not in found and name != "unlabelled":
            path = workdir / "features" / "embeddings.npz"
            raise UserError(f"{path} has no '{name}'; {again(workdir, 'features')}")
        if name in found and len(found[name]) != count:
            raise UserError(
                f"embeddings.npz in {workdir} has {len(found[name])} rows for the {count} images "
                f"of '{name}'; {again(workdir, 'features')}"
            )
    return found


def _npz(path: pathlib.Path, workdir: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    try:
        return tables.map_npz(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); {again(workdir, name)}") from error


def _ratings(path: pathlib.Path, ids: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    table = labels.read_labels(path)
    row = {name: index for index, name in enumerate(ids)}
    ratings = {}
    for rater in dict.fromkeys(table.rater):
        verdict, score = np.full(len(ids), -1), np.full(len(ids), np.nan)
        for index in np.flatnonzero(table.rater == rater):
            place = row.get(table.sample_id[index])
            if place is not None:
                verdict[place] = labels.KINDS.index(table.label[index])
                score[place] = table.score[index]
        ratings[str(rater).removeprefix(labels.AUTO)] = verdict, score
    return ratings


def _filters(workdir: pathlib.Path, pool: pools.Pool) -> dict[str, Filtered]:
    path = workdir / "filter" / "scores.parquet"
    find, filters = pool.finder(), {}
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for batch in tables.read_batches(path, ["sample_id", "filter", "score", "kept"]):
        place = find(batch["sample_id"])
        names = batch["filter"].dictionary_encode()
        for number, name in enumerate(names.dictionary.to_pylist()):
            rows = names.indices.to_numpy() == number
            columns = found.setdefault(name, {"place": [], "score": [], "kept": []})
            columns["place"].append(place[rows])
            for column in ("score", "kept"):
                values = batch[column].to_numpy(zero_copy_only=False)
                columns[column].append(values[rows])
    for name, parts in found.items():
        columns = {column: np.concatenate(values) for column, values in parts.items()}
        place = columns["place"]
        if not np.array_equal(np.sort(place), np.arange(len(pool))):
            raise UserError(f"{path} is of another second pool; {again(workdir, 'filter')}")
        order = np.argsort(place)
        filters[name] = Filtered(columns["score"][order], columns["kept"][order])
    return filters


def _arm(workdir: pathlib.Path, name: str, seeds: int, truth: np.ndarray) -> Arm:
    folder = workdir / "target" / name
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing though --config.target.arms names it; {again(workdir, 'target')}"
        )
    outcomes = []
    for seed in range(seeds):
        path = folder / str(seed) / "predictions.npz"
        arrays = _npz(path, workdir, "target")
        if not np.array_equal(arrays["labels"], truth):
            raise UserError(f"{path} is of another test split; {again(workdir, 'target')}")
        outcomes.append((arrays["probs"], arrays["labels"]))
    return Arm(tables.read_json(folder / "choice.json"), tuple(range(seeds)), outcomes)


def _curves(path: pathlib.Path) -> dict[str, tuple[list[float], list[float]]]:
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); delete {path.parent} and train again"
        ) from error
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        for metric, value in line.items():
            if metric == "step" or not isinstance(value, int | float):
                continue  # not finite, or a note on dropped updates
            steps, values = curves.setdefault(metric, ([], []))
            steps.append(line["step"])
            values.append(value)
    return curves
