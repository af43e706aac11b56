"""The study of a work directory: its store, its images, and how uncertain the VRN is of them."""

import pathlib

import ml_collections
import numpy as np

from data import pools, tables
from data.errors import UserError
from data.records import Records
from launch import extract, prepare, stage, train_vrn
from vrn.review import access, consensus, study
from vrn.review.pictures import Gallery
from vrn.review.store import Store

FOLDER = "review"
POOLS = ("first", "second")


def open_store(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Store:
    """The database that the configuration names."""
    file = (workdir / FOLDER / "review.sqlite").resolve()
    return Store(config.review.database or f"sqlite:///{file}")


def begun(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> study.Study:
    """The study of that name, which must have been begun.

    Raises:
      UserError: it was not; the message names the program to run.
    """
    if config.review.database or (workdir / FOLDER / "review.sqlite").is_file():
        found = study.find_study(open_store(config, workdir), config.review.name)
        if found is not None:
            return found
    raise UserError(
        f"There is no study {config.review.name!r} of {workdir}; run `python -m launch.review` "
        "with the same --config and --workdir and label images first."
    )


def images(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> tuple[pools.Pool, Records]:
    """The pool and the real images that are hidden in it."""
    if config.review.pool not in POOLS:
        raise UserError(
            f"--config.review.pool={config.review.pool!r}: choose from {', '.join(POOLS)}."
        )
    stage.require(workdir, f"pools/{config.review.pool}")
    pool = pools.open_pool(workdir / "pools" / config.review.pool)
    return pool, prepare.open_split(workdir, "val")


def open_study(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, pool: pools.Pool, real: Records
) -> study.Study:
    """Begins the study or goes on with it; see `vrn.review.study.open_study`."""
    chosen = config.review
    settings = study.Settings(
        name=chosen.name,
        raters=tuple(chosen.raters),
        labels=chosen.labels,
        real_share=chosen.real_share,
        repeats=chosen.repeats,
        raters_per_image=chosen.raters_per_image,
        images=chosen.images,
        seed=chosen.seed,
    )
    settings.validate()  # before a file is made
    real_ids = [str(one) for one in real.ids]
    return study.open_study(
        open_store(config, workdir), settings, pool.ids, real_ids, pool=chosen.pool
    )


def gallery(workdir: pathlib.Path, pool: pools.Pool, real: Records) -> tuple[Gallery, bytes]:
    """The images under opaque names, and the secret that these and all keys are made with."""
    secret = access.read_secret(workdir / FOLDER / "secret")
    return Gallery([pool, real], secret), secret


def uncertainty(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, pool: pools.Pool
) -> dict[str, float]:
    """Distance of the VRN's log-odds from its operating point, of every image of the pool.

    Raises:
      UserError: there is no VRN yet.
    """
    logits = vrn_scores(config, workdir, pool)
    point = tables.read_json(workdir / "vrn" / "calibration.json")["operating_point"]["logit"]
    return dict(zip(map(str, pool.ids), np.abs(logits - point).tolist(), strict=True))


def vrn_scores(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, pool: pools.Pool
) -> np.ndarray:
    """The VRN's log-odds of real-like, float [N]; kept in `WORKDIR/review` until either changes."""
    of = [stage.require(workdir, name)["digest"] for name in ("vrn", f"pools/{config.review.pool}")]
    path = workdir / FOLDER / "vrn_scores.npz"
    if path.is_file():
        with np.load(path) as kept:
            if kept["of"].tolist() == of:
                return kept["scores"]
    scores = np.asarray(train_vrn.open_scorer(config, workdir)(pool), float)
    tables.write_npz(path, scores=scores, of=np.array(of))
    return scores


def unseen_by_vrn(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, size: int
) -> np.ndarray:
    """Which of the pool's images the VRN was not trained on, bool [size]."""
    unseen = np.ones(size, bool)
    if config.review.pool == "first":
        rows, _ = extract.read(workdir)
        unseen[:] = False
        unseen[np.concatenate([rows.calibration, rows.measurement])] = True
    return unseen


def rule(config: ml_collections.ConfigDict) -> str:
    """How several raters become one verdict.

    Raises:
      UserError: there is no such rule.
    """
    if config.review.rule not in consensus.RULES:
        raise UserError(
            f"--config.review.rule={config.review.rule!r}: choose from "
            f"{', '.join(consensus.RULES)}."
        )
    return config.review.rule
