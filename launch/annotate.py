"""Annotates the first pool: which images look real, which do not.

python -m launch.annotate --config=configs/digits.py --workdir=runs/digits
"""

import pathlib
import time

import ml_collections
import numpy as np

from data import pools, tables
from data.errors import UserError
from launch import cli, distributed, prepare, rng, stage, train_features
from vrn import annotators, labels
from vrn.features import Described, FeatureSpace


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/annotation/labels.parquet`: by method, members and expert."""
    settings = {"annotate": config.annotate.to_dict(), "seed": config.seed}
    if config.annotate.given:
        settings["given"] = _digest(config.annotate.given)
    needs = ("data", "features", "pools/first")
    begun = stage.begin(workdir, "annotation", settings, needs=needs, overwrite=overwrite)
    if begun is None:
        return workdir / "annotation"
    space = train_features.open_features(config, workdir)  # by all: orbax waits for them
    distributed.on_main(lambda: _annotate(config, workdir, begun, space))
    return begun.folder


def _annotate(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    begun: stage.Stage,
    space: FeatureSpace,
) -> None:
    pool = pools.open_pool(workdir / "pools" / "first")
    described = space.describe(pool)
    real = annotators.Reals(
        train=space.describe(prepare.open_split(workdir, "train")),
        held_out=space.describe(prepare.open_split(workdir, "val")),
    )
    parts = [] if not config.annotate.given else [_expert(config.annotate.given, pool.ids)]
    given = labels.resolve(parts[0], pool.ids) if parts else None
    method, members = config.annotate.method, config.annotate.members
    if given is None and annotators.needs_labels(method, members):
        given = _self_labelled(config, described, real)
    raters = dict.fromkeys((*(members if method == "ensemble" else ()), method))
    for rater in raters:
        began = time.monotonic()
        scores = annotators.annotate(
            rater,
            described,
            real,
            given=given,
            threshold=config.annotate.threshold,
            neighbours=config.annotate.neighbours,
            seed=rng.fold(config.seed, "annotate"),
            members=members,
        )
        seconds = (time.monotonic() - began) / len(pool)
        parts.append(labels.from_scores(pool.ids, labels.AUTO + rater, scores, seconds))
        cli.say(f"annotation: {rater}: {np.mean(scores >= 0.5):.0%} real-like")
    labels.write_labels(begun.folder / "labels.parquet", labels.concatenate(*parts))
    tables.write_npz(
        begun.folder / "embeddings.npz", first=described.features, probs=described.probs
    )
    begun.finish(images=len(pool))


def verdicts(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> np.ndarray:
    """Returns 1 (real-like), 0 or -1 (unlabelled) per row of the first pool; experts overrule."""
    stage.require(workdir, "annotation")
    table = labels.read_labels(workdir / "annotation" / "labels.parquet")
    pool = pools.open_pool(workdir / "pools" / "first")
    final = labels.AUTO + config.annotate.method
    automatic = np.array([rater.startswith(labels.AUTO) for rater in table.rater])
    return labels.resolve(table.where(~automatic | (table.rater == final)), pool.ids)


def _digest(path: str) -> str:
    if not pathlib.Path(path).is_file():
        raise UserError(f"--config.annotate.given={path} does not exist; mend the path")
    return tables.file_sha256(path)


def _expert(path: str, ids: np.ndarray) -> labels.Labels:
    table = labels.read_labels(path)
    if not np.isin(table.sample_id, ids).any():
        raise UserError(
            f"--config.annotate.given: no sample_id of {path} is in this first pool; "
            "give the labels of this pool, or none"
        )
    return table


def _self_labelled(
    config: ml_collections.ConfigDict, pool: Described, real: annotators.Reals
) -> np.ndarray:
    """Stand-in for an expert's labels: the images that the label-free annotators are sure of."""
    settings = config.annotate
    scores = [
        annotators.annotate(
            name, pool, real, threshold=settings.threshold, neighbours=settings.neighbours
        )
        for name in annotators.LABEL_FREE
    ]
    return annotators.confident_labels(
        np.mean(scores, axis=0), pool.labels, settings.confident_share
    )


if __name__ == "__main__":
    cli.start(run)
