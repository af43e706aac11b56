"""The loop's own parts, applied to pools whose truth is known.

What one seed's measurements share - real splits, GAN and feature network - is made by the stages of
the loop in a work directory. Everything after it is made in memory by the functions that those
stages call.
"""

import copy
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from benchmarks.vrn_truth import measures, pools
from data.records import Records
from evaluation import classification
from launch import models, prepare, rng, train_features, train_gan, train_vrn
from vrn import annotators, classifier, extraction, filters, target
from vrn.features import Described, FeatureSpace

ARMS = ("unfiltered", "random", "discriminator", "knn", "confidence", "vrn", "oracle")
_PER_CLASS = {"val": 40, "test": 300}
_DISCRIMINATOR_BATCH = 100


class Bench:
    """One seed: its real images, and GAN and feature network, each made when first asked for.

    Attributes:
        config: the experiment with this seed.
        folder: the seed's work directory.
        real: splits 'train', 'val' and 'test'.
    """

    def __init__(self, config: ml_collections.ConfigDict, folder: pathlib.Path, seed: int):
        """Makes what is missing of the splits in `folder`/seed`seed`."""
        self.config = config = copy.deepcopy(config)  # ConfigDict(config) would share its sections
        self.folder, self.seed = folder / f"seed{seed}", seed
        config.seed = seed
        reals = self.folder / "reals.npz"
        config.data.source = f"npz:{reals}"
        if not reals.exists():
            reals.parent.mkdir(parents=True, exist_ok=True)
            per_class = {"train": config.data.real_per_class, **_PER_CLASS}
            pools.write_reals(reals, seed, per_class)
        prepare.run(config, self.folder, overwrite=False)
        self.real = {
            name: prepare.open_split(self.folder, name) for name in ("train", "val", "test")
        }

    @functools.cached_property
    def space(self) -> FeatureSpace:
        """The feature space."""
        train_features.run(self.config, self.folder, overwrite=False)
        return train_features.open_features(self.config, self.folder)

    @functools.cached_property
    def reals(self) -> annotators.Reals:
        """What annotators compare with."""
        return annotators.Reals(
            train=self.space.describe(self.real["train"]),
            held_out=self.space.describe(self.real["val"]),
        )

    def gan(self, step: int | None = None) -> tuple[Any, Any]:
        """The GAN at a step that was kept, by default the last: its spec and its state."""
        train_gan.run(self.config, self.folder, overwrite=False)
        return train_gan.restore(self.config, self.folder, step)

    @functools.cached_property
    def _last_gan(self) -> tuple[Any, Any]:
        return self.gan()

    def discriminator_score(self, images: Records) -> np.ndarray:
        """The discriminator's logits [N] for images with their own labels."""
        spec, state = self._last_gan
        scores = []
        for start in range(0, len(images), _DISCRIMINATOR_BATCH):
            rows = np.arange(start, min(start + _DISCRIMINATOR_BATCH, len(images)))
            batch, labels = (
                models.pad(part, _DISCRIMINATOR_BATCH)
                for part in (images.read(rows), images.labels[rows])
            )
            logits = _judge(spec.discriminator, state.d_params, batch, labels)
            scores.append(np.asarray(logits)[: len(rows)])
        return np.concatenate(scores)


@functools.partial(jax.jit, static_argnums=0)
def _judge(discriminator: Any, params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    return discriminator.apply({"params": params}, images, labels)


class _Classifier:
    """A trainer and its compiled prediction, for one spec of this process."""

    def __init__(
        self, spec: classifier.ClassifierSpec, config: ml_collections.ConfigDict, section: str
    ):
        shape = (config.data.size, config.data.size, config.data.channels)
        self.trainer = models.Trainer(spec, shape, config, section)
        self.predict = jax.jit(functools.partial(classifier.predict, spec=self.trainer.spec))


_CLASSIFIERS: dict[str, _Classifier] = {}


def _classifier(config: ml_collections.ConfigDict, section: str) -> _Classifier:
    """The classifier of a section's settings; the same settings are compiled once."""
    key = section + json.dumps(config[section].to_dict(), sort_keys=True)
    if key not in _CLASSIFIERS:
        if section == "vrn":
            spec = models.vrn_spec(config)
        else:
            classes = len(pools.CLASSES)
            spec = models.classifier_spec(config[section], classes, config[section].steps)
        _CLASSIFIERS[key] = _Classifier(spec, config, section)
    return _CLASSIFIERS[key]


@dataclasses.dataclass(frozen=True)
class Vrn:
    """A trained VRN.

    Attributes:
        score: its log-odds of real-like [N] for records.
        calibration: what `train_vrn.measured` says of it, None where too few were annotated.
    """

    score: Callable[[Records], np.ndarray]
    calibration: Mapping[str, Any] | None


def train(bench: Bench, pool: Records, verdicts: np.ndarray, **changes: Any) -> Vrn:
    """Extracts, trains and calibrates as the loop does.

    Args:
        bench: the seed.
        pool: the first pool, N images.
        verdicts: int [N]: 1 real-like, 0 non-real-like, -1 not annotated.
        **changes: of `config.vrn`.
    """
    config = copy.deepcopy(bench.config)
    config.vrn.update(changes)
    half = config.extract.held_out / 2
    rows = extraction.extract(
        verdicts,
        pool.labels,
        num_classes=len(pools.CLASSES),
        min_negatives=1,
        min_negatives_per_class=0,
        min_held_out=0,
        shares=(1 - 2 * half, half, half),
        seed=rng.fold(bench.seed, "extract"),
    )
    made = _classifier(config, "vrn")
    params = made.trainer.train(
        train_vrn.parts(config.vrn, bench.real["train"], pool, rows),
        bench.folder / "vrn_truth",
        name="VRN",
        seed=rng.fold(bench.seed, "vrn"),
        steps=config.vrn.steps,
        augment=tuple(config.data.augment),
        strength=1.0,
        checkpoints=False,
        show=False,
    )

    def score(images: Records) -> np.ndarray:
        logits = classifier.in_batches(made.predict, params, images, config.vrn.batch)
        return np.asarray(classifier.margin(logits), np.float64)

    held_out = (rows.calibration, rows.measurement)
    if any(len(np.unique(verdicts[part])) < 2 for part in held_out):
        return Vrn(score, None)
    unseen = bench.real["val"]
    return Vrn(score, train_vrn.measured(config, score, pool, verdicts, rows, unseen))


def filter_scores(
    bench: Bench, pool: pools.Pool, described: Described, vrn_score: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores [N], higher = keep, of every filter of the loop and of the oracle."""
    inputs = filters.FilterInputs(
        pool=described,
        real=bench.reals.train,
        vrn_score=vrn_score,
        discriminator_score=bench.discriminator_score(pool.records),
        seed=rng.fold(bench.seed, "filter"),
    )
    found = {name: filters.score(name, inputs) for name in bench.config.filter.names}
    # Sound images first, in random order, then the others.
    return found | {"oracle": pool.sound + found["random"]}


def keep(config: ml_collections.ConfigDict, pool: Records, scores: np.ndarray) -> np.ndarray:
    """Bool [N]: the share `config.filter.keep` of every class with the highest scores."""
    count = round(config.filter.keep * len(pool) / len(pools.CLASSES))
    return next(iter(filters.keep_per_class([(scores, pool.labels)], count)))


def rankings(
    config: ml_collections.ConfigDict, pool: pools.Pool, scores: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """What `measures.ranking` says of each filter's scores and of what it keeps."""
    return {
        name: measures.ranking(score, pool.kind, keep(config, pool.records, score))
        for name, score in scores.items()
    }


def target_accuracy(bench: Bench, pool: Records | None, share: float | None = None) -> float:
    """Balanced accuracy on the real test split of a target model trained with a pool.

    Args:
        bench: the seed; for one seed all models start from the same weights.
        pool: synthetic images, or None for real ones alone.
        share: of every batch that comes from the pool, by default the setting's.
    """
    config = bench.config
    shares = config.target.shares if share is None else (share,)
    made = _classifier(config, "target")
    name = "classical" if pool is None else "unfiltered"
    setting = target.settings(name, shares, config.target.strengths)[-1]
    real = bench.real["train"]
    params = made.trainer.train(
        target.parts(name, setting, config.target.batch, real=real, pool=pool, kept={}),
        bench.folder / "target_truth",
        name="target",
        seed=rng.fold(bench.seed, "target"),
        steps=config.target.steps,
        augment=tuple(config.data.augment),
        strength=setting.strength,
        checkpoints=False,
        show=False,
    )
    test = bench.real["test"]
    logits = classifier.in_batches(made.predict, params, test, config.target.batch)
    probs = np.asarray(jax.nn.softmax(logits))
    return classification.metrics(probs, test.labels)["balanced_accuracy"]
