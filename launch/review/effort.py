"""The effort curve: how good a VRN gets with so many reviewed images, and what it then keeps.

A third of the reviewed images is held out. VRNs are trained on the negatives among 50, 100, 200 and
500 of the rest, or on those and the negatives that an annotator, taught by the same labels,
predicts among the other images of the pool; each is measured on the third.
"""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from data import pools, tables
from data.errors import UserError
from evaluation import agreement, classification
from launch import cli, prepare, rng, train_features, train_vrn
from launch.report import words
from launch.review import numbers, opening
from vrn import annotators, extraction, filters, labels
from vrn.review import consensus

SIZES = (50, 100, 200, 500)
SEEDS = 3
ANNOTATOR = "sklearn:SVC"
VARIANTS = ("reviewed", f"reviewed+{ANNOTATOR}")
_FEWEST = 2  # negatives to train on, and images of either kind to measure on


def write(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Writes `WORKDIR/review/effort.json`.

    Raises:
      UserError: too few images are reviewed, or none of one kind.
    """
    if config.review.pool != "first":
        raise UserError(
            "--effort trains VRNs, which learn from the first pool; set --config.review.pool=first."
        )
    ratings = opening.begun(config, workdir).ratings()
    pool = pools.open_pool(workdir / "pools" / "first")
    table = consensus.table(ratings, pool.ids, opening.rule(config))
    together = np.char.startswith(table.rater, labels.TOGETHER)
    verdicts = labels.resolve(table.where(together), pool.ids)
    seed = rng.fold(config.seed, "effort")
    reviewed = np.flatnonzero(verdicts >= 0)
    parts = extraction.split(2 * pool.labels[reviewed] + verdicts[reviewed], (2 / 3, 1 / 3), seed)
    train, held_out = reviewed[parts == 0], reviewed[parts == 1]
    sizes = [size for size in SIZES if size <= len(train)]
    if not sizes or min(np.bincount(verdicts[held_out], minlength=2)) < _FEWEST:
        raise UserError(
            f"{len(reviewed)} images are reviewed, {int((verdicts == 0).sum())} of them "
            f"non-real-like; the effort curve needs {3 * SIZES[0] // 2} or more with both kinds "
            "among them."
        )
    study = _Curve(config, workdir, pool, verdicts, held_out)
    points = []
    for variant in VARIANTS:
        for size in sizes:
            point = study.point(variant, train, size, seed)
            points.append({"variant": variant, "reviewed": size, **point})
            cli.say(
                f"effort: {variant}, {size} images: AUC {words.number(point['auc']['mean'])}, "
                f"real-like among the kept {words.percent(mean(point['kept_real_like']))}"
            )
    tables.write_json(
        workdir / opening.FOLDER / numbers.EFFORT_FILE,
        {
            "points": points, "held_out": len(held_out), "seeds": SEEDS, "keep": config.filter.keep,
            "real_like_of_held_out": float(verdicts[held_out].mean()),
        },
    )  # fmt: skip


def mean(values: Sequence[float]) -> float | None:
    """Of values, or None of none."""
    return float(np.mean(values)) if values else None


class _Curve:
    """Trains and measures; the step is compiled once."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        workdir: pathlib.Path,
        pool: pools.Pool,
        verdicts: np.ndarray,
        held_out: np.ndarray,
    ) -> None:
        self._config, self._pool = config, pool
        self._verdicts, self._held_out = verdicts, held_out
        self._real = prepare.open_split(workdir, "train")
        self._trainer = train_vrn.open_trainer(config, workdir)
        space = train_features.open_features(config, workdir)
        self._described = space.describe(pool)
        self._reals = annotators.Reals(
            space.describe(self._real), space.describe(prepare.open_split(workdir, "val"))
        )

    def point(self, variant: str, train: np.ndarray, size: int, seed: int) -> dict[str, Any]:
        """Of VRNs trained on `size` of the rows `train`, each time others."""
        scores, kept, used = [], [], []
        truth = self._verdicts[self._held_out]
        for number in range(SEEDS):
            draw = np.random.default_rng([seed, size, number])
            chosen = np.sort(draw.choice(train, size, replace=False))
            negatives = self._negatives(variant, chosen, seed)
            if len(negatives) < _FEWEST:
                continue
            scores.append(self._scores(negatives, rng.fold(seed, f"{size}-{number}")))
            kept.append(float(truth[self._kept(scores[-1])].mean()))
            used.append(len(negatives))
        return {
            "auc": _mean_auc(np.array(scores), truth), "kept_real_like": kept, "negatives": used,
        }  # fmt: skip

    def _negatives(self, variant: str, chosen: np.ndarray, seed: int) -> np.ndarray:
        """Rows of non-real-like images: reviewed ones, and in one variant predicted ones."""
        reviewed = chosen[self._verdicts[chosen] == 0]
        if variant == VARIANTS[0] or min(np.bincount(self._verdicts[chosen], minlength=2)) < 2:
            return reviewed
        given = np.full(len(self._pool), annotators.UNKNOWN)
        given[chosen] = self._verdicts[chosen]
        scores = annotators.annotate(
            ANNOTATOR, self._described, self._reals, given=given, seed=seed % 2**32,
            neighbours=self._config.annotate.neighbours,
        )  # fmt: skip
        predicted = np.flatnonzero((scores < 0.5) & (given == annotators.UNKNOWN))
        return np.union1d(reviewed, np.setdiff1d(predicted, self._held_out))

    def _scores(self, negatives: np.ndarray, seed: int) -> np.ndarray:
        none = np.array([], int)
        rows = extraction.Extraction(none, negatives, none, none, none)
        settings = self._config.vrn.copy_and_resolve_references()
        settings.positives = "real"
        with tempfile.TemporaryDirectory(prefix="vrn-effort-") as folder:
            params = self._trainer.train(
                train_vrn.parts(settings, self._real, self._pool, rows),
                pathlib.Path(folder),
                name="effort",
                seed=seed,
                steps=settings.steps,
                augment=tuple(self._config.data.augment),
                strength=1.0,
                tensorboard=False,
            )
        score = train_vrn.scorer(self._trainer.spec, params, settings.batch)
        return np.asarray(score(self._pool.subset(self._held_out)))

    def _kept(self, scores: np.ndarray) -> np.ndarray:
        """What the filter would keep of the held-out images: its share of every class."""
        labels = self._pool.labels[self._held_out]
        kept = np.zeros(len(scores), bool)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            count = round(self._config.filter.keep * len(rows))
            (chosen,) = filters.keep_per_class([(scores[rows], labels[rows])], count)
            kept[rows[chosen]] = True
        return kept


def _mean_auc(scores: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Mean area of VRNs with scores [S, N], of each, and the interval of the mean over images."""

    def area(columns: np.ndarray) -> float | None:
        if len(np.unique(columns[-1])) < 2:
            return None
        return float(np.mean([classification.auc(row, columns[-1]) for row in columns[:-1]]))

    if not len(scores):
        return {"mean": None, "ci95": [None, None], "count": len(truth), "seeds": []}
    columns = np.concatenate([scores, truth[None]]).astype(float)
    seeds = [classification.auc(row, truth) for row in scores]
    return {**agreement.with_interval(area, columns), "seeds": seeds}
