"""Scores the second pool with every filter; each keeps the same number of every class.

python -m launch.filter --config=configs/digits.py --workdir=runs/digits
"""

import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from data import pools, tables
from launch import cli, models, prepare, rng, stage, train_features, train_gan, train_vrn
from vrn import filters


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/filter/scores.parquet`: one row per image and filter."""
    settings = {"filter": config.filter.to_dict(), "seed": config.seed}
    needs = ("data", "gan", "features", "vrn", "pools/second")
    begun = stage.begin(workdir, "filter", settings, needs=needs, overwrite=overwrite)
    if begun is None:
        return workdir / "filter"
    pool = pools.open_pool(workdir / "pools" / "second")
    space = train_features.open_features(config, workdir)
    described = space.describe(pool)
    inputs = filters.FilterInputs(
        pool=described,
        real=space.describe(prepare.open_split(workdir, "train")),
        vrn_score=train_vrn.open_vrn(config, workdir)(pool),
        discriminator_score=_discriminator(config, workdir, pool),
        seed=rng.fold(config.seed, "filter"),
    )
    count = round(config.filter.keep * config.generate.second_per_class)
    columns: dict[str, list[np.ndarray]] = {}
    for name in config.filter.names:
        scores = filters.score(name, inputs)
        kept = filters.keep_per_class(scores, pool.labels, count)
        table = {"sample_id": pool.ids, "filter": np.full(len(pool), name)}
        for column, values in (table | {"score": scores, "kept": kept}).items():
            columns.setdefault(column, []).append(values)
    tables.write_parquet(
        begun.folder / "scores.parquet", {k: np.concatenate(v) for k, v in columns.items()}
    )
    tables.write_npz(
        begun.folder / "embeddings.npz", second=described.features, probs=described.probs
    )
    cli.say(f"filter: every filter keeps {count} of each class")
    begun.finish(kept_per_class=count)
    return begun.folder


def kept_rows(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns, for each filter, the mask `[N]` of the rows of the second pool that it keeps."""
    stage.require(workdir, "filter")
    table = tables.read_parquet(workdir / "filter" / "scores.parquet")
    names = dict.fromkeys(table["filter"])
    return {name: np.asarray(table["kept"])[table["filter"] == name] for name in names}


def _discriminator(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, pool: pools.Pool
) -> np.ndarray:
    """Logits `[N]` of the last discriminator for each image and its own label."""
    spec, trained = train_gan.restore(config, workdir)
    batch = config.generate.batch

    @jax.jit
    def judge(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        return spec.discriminator.apply({"params": params}, images, labels)

    logits = []
    for start in range(0, len(pool), batch):
        rows = np.arange(start, min(start + batch, len(pool)))
        padded = models.pad(rows, batch)
        logits.append(judge(trained.d_params, pool.read(padded), pool.labels[padded])[: len(rows)])
    return np.concatenate(logits)


if __name__ == "__main__":
    cli.start(run)
