"""Trains the virtual radiologist network and measures it on the held-out part of the pool.

python -m launch.train_vrn --config=configs/digits.py --workdir=runs/digits
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from data import loader, pools, tables
from data.records import Records
from launch import cli, distributed, extract, models, prepare, rng, stage
from launch import mesh as mesh_lib
from vrn import calibrate, classifier, extraction
from vrn.annotators import NON_REAL_LIKE, REAL_LIKE


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Trains, calibrates and measures; writes `WORKDIR/vrn/calibration.json`."""
    settings = {
        "vrn": config.vrn.to_dict(),
        "seed": config.seed,
        "augment": config.data.augment,
    }
    needs = ("data", "pools/first", "extraction")
    mesh_lib.arranged(config, "vrn")  # refuses before anything is discarded
    begun = stage.begin(workdir, "vrn", settings, needs=needs, overwrite=overwrite)
    if begun is None:
        return workdir / "vrn"
    trainer = open_trainer(config, workdir)
    params = trainer.train(
        _parts(config, workdir),
        begun.folder,
        name="VRN",
        seed=rng.fold(config.seed, "vrn"),
        steps=config.vrn.steps,
        augment=tuple(config.data.augment),
        strength=1.0,
        tensorboard=config.tensorboard,
    )
    score = scorer(trainer.spec, params, config.vrn.batch)
    distributed.on_main(lambda: _measure(config, workdir, begun.folder, score))
    begun.finish(digest=models.tree_digest(params))
    return begun.folder


Score = Callable[[Records], np.ndarray]


def _measure(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, folder: pathlib.Path, score: Score
) -> None:
    """Calibrates on one held-out part of the pool and measures on the other."""
    pool = pools.open_pool(workdir / "pools" / "first")
    rows, real_like = extract.read(workdir)
    result = measured(config, score, pool, real_like, rows, prepare.open_split(workdir, "val"))
    tables.write_json(folder / "calibration.json", result)
    cli.say(
        f"VRN: AUC within synthetic images {result['auc_within_synthetic']:.3f}, accepts "
        f"{result['acceptance_rate']:.0%} of the real-like ones"
    )


def measured(
    config: ml_collections.ConfigDict,
    score: Score,
    pool: Records,
    real_like: np.ndarray,
    rows: extraction.Extraction,
    unseen: Records,
) -> dict[str, Any]:
    """Calibrates a VRN on one held-out part of a pool and measures it on the other.

    Args:
      config: experiment.
      score: the VRN's log-odds of real-like [N] for records.
      pool: the first pool, N images.
      real_like: int [N], its annotation, 1 or 0 wherever `rows` look.
      rows: the parts.
      unseen: real images that the VRN did not learn from.

    Returns:
      What `vrn.calibrate.calibrate` does, and 'accepted_of_real', the share of the unseen real
      images beyond the operating point: a VRN that knows the generator accepts all of them and no
      synthetic one.
    """
    result = calibrate.calibrate(
        score(pool.subset(rows.calibration)),
        real_like[rows.calibration],
        score(pool.subset(rows.measurement)),
        real_like[rows.measurement],
        method=config.vrn.calibration,
        seed=rng.fold(config.seed, "vrn", "bootstrap"),
    )
    accepted = score(unseen) >= result["operating_point"]["logit"]
    return result | {"accepted_of_real": float(accepted.mean())}


def open_vrn(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[classifier.ClassifierSpec, Any]:
    """Opens the trained VRN: its spec and parameters."""
    stage.require(workdir, "vrn")
    trainer = open_trainer(config, workdir)
    return trainer.spec, trainer.restore(workdir / "vrn")


def open_scorer(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Score:
    """The trained VRN as a function of images to log-odds of real-like, float [N]."""
    spec, params = open_vrn(config, workdir)
    return scorer(spec, params, config.vrn.batch)


def scorer(spec: classifier.ClassifierSpec, params: Any, batch: int) -> Score:
    """A VRN as a function of images to log-odds of real-like, float [N]."""
    predict = jax.jit(functools.partial(classifier.predict, spec=spec))

    def score(images: Records) -> np.ndarray:
        return classifier.margin(classifier.in_batches(predict, params, images, batch))

    return score


def open_trainer(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> models.Trainer:
    """Trains VRNs on images of this run."""
    shape = prepare.open_split(workdir, "train").image_shape
    return models.Trainer(models.vrn_spec(config), shape, config, "vrn")


def parts(
    settings: ml_collections.ConfigDict,
    real: Records,
    pool: Records,
    rows: extraction.Extraction,
) -> list[loader.Part]:
    """Half positives, half negatives, each half with the diagnostic classes in equal shares.

    Args:
      settings: `config.vrn`.
      real: real training images.
      pool: the first pool.
      rows: which of its images are what.
    """
    half = settings.batch // 2
    negatives = loader.Part(pool.subset(rows.negatives), half, label=NON_REAL_LIKE)
    if settings.positives == "real":
        return [loader.Part(real, half, label=REAL_LIKE), negatives]
    quarter = half // 2
    return [
        loader.Part(real, half - quarter, label=REAL_LIKE),
        loader.Part(pool.subset(rows.positives), quarter, label=REAL_LIKE),
        negatives,
    ]


def _parts(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> list[loader.Part]:
    real = prepare.open_split(workdir, "train")
    rows, _ = extract.read(workdir)
    return parts(config.vrn, real, pools.open_pool(workdir / "pools" / "first"), rows)


if __name__ == "__main__":
    cli.start(run)
