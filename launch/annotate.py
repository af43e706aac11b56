"""Annotates the first pool: which images look real, which do not.

python -m launch.annotate --config=configs/digits.py --workdir=runs/digits
"""

import importlib
import pathlib
import time
import types

import ml_collections
import numpy as np

from data import pools, tables
from data.errors import UserError
from launch import cli, distributed, prepare, rng, stage, train_features
from vrn import annotators, labels
from vrn.features import Described, FeatureSpace

REVIEW = "review"


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes `WORKDIR/annotation/labels.parquet`: by method, members and expert."""
    settings = {"annotate": config.annotate.to_dict(), "seed": config.seed}
    if config.annotate.given:
        settings["given"] = _digest(config.annotate.given)
    reviewed = None
    if is_reviewed(config):
        # Read once: raters may go on while this runs.
        reviewed = distributed.on_main(lambda: _reviewed(config, workdir))
        settings["review"] = {"rule": config.review.rule, "labels": reviewed.digest()}
    needs = ("data", "features", "pools/first")
    begun = stage.begin(workdir, "annotation", settings, needs=needs, overwrite=overwrite)
    if begun is None:
        return workdir / "annotation"
    space = train_features.open_features(config, workdir)  # by all: orbax waits for them
    distributed.on_main(lambda: _annotate(config, workdir, begun, space, reviewed))
    return begun.folder


def _annotate(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    begun: stage.Stage,
    space: FeatureSpace,
    reviewed: labels.Labels | None,
) -> None:
    pool = pools.open_pool(workdir / "pools" / "first")
    described = space.describe(pool)
    real = annotators.Reals(
        train=space.describe(prepare.open_split(workdir, "train")),
        held_out=space.describe(prepare.open_split(workdir, "val")),
    )
    method, members = automatic_method(config), config.annotate.members
    if reviewed is not None:
        parts = [reviewed]
        given = labels.resolve(_final(reviewed, method), pool.ids)
        cli.say(
            f"annotation: review: {np.sum(given == 1)} real-like, {np.sum(given == 0)} not, "
            f"{np.sum(given < 0)} undecided or not reviewed"
        )
    else:
        parts = [] if not config.annotate.given else [_expert(config.annotate.given, pool.ids)]
        given = labels.resolve(parts[0], pool.ids) if parts else None
    if given is None and annotators.needs_labels(method, members):
        given = _self_labelled(config, described, real)
    raters = dict.fromkeys((*(members if method == "ensemble" else ()), method))
    for rater in filter(None, raters):
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
    return labels.resolve(_final(table, automatic_method(config)), pool.ids)


def is_reviewed(config: ml_collections.ConfigDict) -> bool:
    """Whether people's labels come from a study of `launch.review`."""
    return config.annotate.method.partition("+")[0] == REVIEW


def automatic_method(config: ml_collections.ConfigDict) -> str:
    """The annotator of what nobody has reviewed; '' where there is none."""
    method = config.annotate.method
    return method.partition("+")[2] if is_reviewed(config) else method


def _final(table: labels.Labels, method: str) -> labels.Labels:
    """The rows that count: of the raters of a study only what they say together."""
    automatic = np.char.startswith(table.rater, labels.AUTO)
    together = np.char.startswith(table.rater, labels.TOGETHER)
    people = together if together.any() else ~automatic
    return table.where(people | (table.rater == labels.AUTO + method))


def _reviewed(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> labels.Labels:
    """What the raters of the study have said of the first pool.

    Raises:
      UserError: there is no study of this pool, or no label yet.
    """
    opening, consensus = _review("launch.review.opening"), _review("vrn.review.consensus")
    pool = pools.open_pool(workdir / "pools" / "first", hold=False)
    ratings = opening.begun(config, workdir).ratings()
    table = consensus.table(ratings, pool.ids, opening.rule(config))
    if not np.char.startswith(table.rater, labels.TOGETHER).any():
        raise UserError(
            f"The study {config.review.name!r} has no label of this first pool yet; run `python "
            "-m launch.review` with the same --config and --workdir and label some."
        )
    return table


def _review(module: str) -> types.ModuleType:
    """A module of the review, whose packages are an extra that most runs do without."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"--config.annotate.method=review needs the package {error.name}; run `pip install "
            "vrn[review]`."
        ) from error


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
