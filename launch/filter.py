"""Scores the second pool with every filter; each keeps the same number of every class.

python -m launch.filter --config=configs/digits.py --workdir=runs/digits
"""

import itertools
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import pyarrow as pa

from data import pools, tables
from launch import (
    cli,
    distributed,
    generators,
    prepare,
    rng,
    stage,
    stream,
    train_features,
    train_vrn,
)
from vrn import classifier, features, filters

_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("filter", pa.string()),
        ("score", pa.float64()),
        ("kept", pa.bool_()),
    ]
)
_PARTS = "parts"

# What the networks see in n rows of the pool, their labels and the first row, to scores [n].
Judge = Callable[[Mapping[str, np.ndarray], np.ndarray, int], dict[str, np.ndarray]]


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/filter/scores.parquet`: one row per image and filter."""
    settings = {"filter": config.filter.to_dict(), "seed": config.seed}
    needs = ("data", config.generate.generator, "features", "vrn", "pools/second")
    begun = stage.begin(workdir, "filter", settings, needs=needs, overwrite=overwrite)
    if begun is not None:
        _fill(config, workdir, begun)
    parts = workdir / "filter" / _PARTS
    if distributed.is_main() and parts.exists():
        shutil.rmtree(parts)  # here, for a run that was killed after it had finished the stage
    return workdir / "filter"


def _fill(config: ml_collections.ConfigDict, workdir: pathlib.Path, begun: stage.Stage) -> None:
    """Scores what is missing and finishes the stage."""
    pool = pools.open_pool(workdir / "pools" / "second", hold=False)
    ranges = stream.shares(len(pool))
    look, judge = open_networks(config, workdir), open_judge(config, workdir)
    # Rows that go together decide how scores round: what a run killed on other devices left is
    # not mixed with what is made here.
    folder = begun.folder / _PARTS / f"{look.rows_per_device}-rows-per-device"
    todo = [
        index for index in stream.mine(len(ranges)) if not _part(folder, *ranges[index]).exists()
    ]
    with stream.progress("filter", ranges, todo) as bar:
        score_shares(look, judge, pool, folder, [ranges[index] for index in todo], bar.update)
    distributed.barrier("second pool scored")
    count = round(config.filter.keep * config.generate.second_per_class)
    if distributed.is_main():
        combine(begun.folder, pool, folder, ranges, config.filter.names, count)
        cli.say(f"filter: every filter keeps {count} of each class")
    begun.finish(kept_per_class=count)


def score_shares(
    look: stream.Forward,
    judge: Judge,
    pool: pools.Pool,
    folder: pathlib.Path,
    ranges: Sequence[tuple[int, int]],
    done: Callable[[int], Any] = lambda count: None,
) -> None:
    """Scores some shares of the pool, each into a file.

    Args:
      look: `open_networks`.
      judge: `open_judge`.
      pool: N images.
      folder: of the files: 'features' `[n, F]`, 'probs' `[n, K]` and a score `[n]` per filter.
      ranges: rows [start, stop) of every share to score.
      done: called with the number of images after every batch.
    """

    def jobs() -> Iterator[tuple[tuple[int, int], tuple[np.ndarray, np.ndarray]]]:
        for start, stop in ranges:
            for low in range(start, stop, look.batch):
                rows = np.arange(low, min(low + look.batch, stop))
                yield (start, stop), (pool.read(rows), pool.labels[rows])

    def finish(start: int, stop: int, seen: Mapping[str, np.ndarray]) -> None:
        scores = judge(seen, pool.labels[start:stop], start)
        tables.write_npz(
            _part(folder, start, stop),
            features=seen["features"],
            probs=seen["probs"],
            **{_score(name): values for name, values in scores.items()},
        )
        stream.give_back_memory()  # 20 ms of several seconds

    longest = max((stop - start for start, stop in ranges), default=0)
    # What the networks see in a share: memory for the one that they look at and the one before,
    # which is being finished.
    memories: tuple[dict[str, np.ndarray], ...] = ({}, {})
    with stream.behind() as behind:
        shares = itertools.groupby(look.ahead(jobs()), key=lambda job: job[0])
        for held, ((start, stop), batches) in zip(itertools.cycle(memories), shares, strict=False):
            row = 0
            for _, result in batches:
                for name, values in result.items():
                    if name not in held:
                        held[name] = np.empty((longest, *values.shape[1:]), values.dtype)
                    held[name][row : row + len(values)] = values
                row += len(values)
                done(len(values))
            behind(finish, start, stop, {name: values[:row] for name, values in held.items()})


def open_judge(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Judge:
    """All filters, as a function of what the networks see in one share of the pool."""
    real = train_features.open_features(config, workdir).describe(
        prepare.open_split(workdir, "train")
    )
    seed = rng.fold(config.seed, "filter")

    def judge(
        seen: Mapping[str, np.ndarray], labels: np.ndarray, first_row: int
    ) -> dict[str, np.ndarray]:
        inputs = filters.FilterInputs(
            pool=features.Described(seen["features"], seen["probs"], labels),
            real=real,
            vrn_score=seen["vrn"],
            discriminator_score=seen.get("discriminator"),
            seed=seed,
            first_row=first_row,
        )
        return {name: filters.score(name, inputs) for name in config.filter.names}

    return judge


def open_networks(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> stream.Forward:
    """The networks that the filters look through: `(images, labels) -> dict` in one pass.

    It holds 'features' `[B, F]`, 'probs' `[B, K]`, 'vrn' `[B]` (log-odds of real-like) and, if a
    filter asks for it, 'discriminator' `[B]` (logit for each image and its own label).
    """
    space = train_features.open_features(config, workdir)
    vrn, vrn_params = train_vrn.open_vrn(config, workdir)
    params = {"features": space.params, "vrn": vrn_params}
    if "discriminator" in config.filter.names:
        discriminator, params["discriminator"] = generators.open_discriminator(config, workdir)

    def look(params: Any, batch: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        images, labels = batch
        seen = features.look(params["features"], images, spec=space.spec)
        seen["vrn"] = classifier.margin(classifier.predict(params["vrn"], images, spec=vrn))
        if "discriminator" in params:
            seen["discriminator"] = discriminator(params["discriminator"], images, labels)
        return seen

    return stream.Forward(look, params, config.generate.batch)


def combine(
    folder: pathlib.Path,
    pool: pools.Pool,
    shares: pathlib.Path,
    ranges: Sequence[tuple[int, int]],
    names: Sequence[str],
    count: int,
) -> None:
    """Writes `scores.parquet` and `embeddings.npz` from the files of all shares.

    Which images a filter keeps depends on all its scores: those of one class are held at a time,
    16 bytes each.

    Args:
      folder: of the stage.
      pool: N images.
      shares: folder that `score_shares` filled.
      ranges: rows [start, stop) of every share.
      names: filters.
      count: images that every filter keeps of each class.
    """
    parts = [_part(shares, *bounds) for bounds in ranges]
    with tables.parquet_writer(folder / "scores.parquet", _SCHEMA) as writer:
        for name in names:
            scores = [tables.map_npz(part)[_score(name)] for part in parts]
            labels = [pool.labels[start:stop] for start, stop in ranges]
            pieces = list(zip(scores, labels, strict=True))
            kept = filters.keep_per_class(pieces, count)
            for bounds, values, mask in zip(ranges, scores, kept, strict=True):
                columns = [pool.ids_at(slice(*bounds)), pa.repeat(name, len(mask)), values, mask]
                writer.write_table(pa.table(columns, schema=_SCHEMA))
    tables.write_npz(
        folder / "embeddings.npz",
        second=tables.Joined(parts, "features"),
        probs=tables.Joined(parts, "probs"),
    )


def _part(folder: pathlib.Path, start: int, stop: int) -> pathlib.Path:
    return folder / f"{start:09d}-{stop:09d}.npz"


def _score(name: str) -> str:
    return f"score_{name}"


def kept_rows(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns, for each filter, the mask `[N]` of the rows of the second pool that it keeps."""
    stage.require(workdir, "filter")
    found: dict[str, list[np.ndarray]] = {}
    for batch in tables.read_batches(workdir / "filter" / "scores.parquet", ["filter", "kept"]):
        names = batch["filter"].dictionary_encode()
        kept = batch["kept"].to_numpy(zero_copy_only=False)
        for number, name in enumerate(names.dictionary.to_pylist()):
            found.setdefault(name, []).append(kept[names.indices.to_numpy() == number])
    return {name: np.concatenate(parts) for name, parts in found.items()}


if __name__ == "__main__":
    cli.start(run)
