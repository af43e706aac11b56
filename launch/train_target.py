"""Trains the target model on every arm and seed, and tests it on the untouched real test split.

python -m launch.train_target --config=configs/digits.py --workdir=runs/digits
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from data import loader, pools, shards, tables
from data.records import Records
from evaluation import classification
from launch import cli, distributed, models, prepare, rng, stage
from launch import filter as filter_stage
from launch import mesh as mesh_lib
from vrn import classifier, target


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Searches on validation, then trains and tests; what is done already is not done again."""
    settings = {
        "target": config.target.to_dict(),
        "seed": config.seed,
        "augment": config.data.augment,
    }
    needs = ("data", "pools/second", "filter")
    mesh_lib.arranged(config, "target")  # refuses before anything is discarded
    begun = stage.begin(workdir, "target", settings, needs=needs, overwrite=overwrite)
    if begun is None:
        return workdir / "target"
    bench = Bench(config, workdir)
    arms = {
        name: target.settings(name, config.target.shares, config.target.strengths)
        for name in config.target.arms
    }
    runs = sum(len(grid) * (len(grid) > 1) + config.target.seeds for grid in arms.values())
    quiet = not distributed.is_main()
    with tqdm(total=runs, desc="target", unit="model", disable=quiet) as bar:
        for name, grid in arms.items():
            bar.set_postfix_str(name)
            choice = _search(config, bench, begun.folder / name, name, grid, bar)
            for seed in range(config.target.seeds):
                _train_and_test(config, bench, begun.folder / name / str(seed), name, choice, seed)
                bar.update()
    begun.finish(arms=list(arms), seeds=config.target.seeds)
    return begun.folder


class Bench:
    """What all target runs of a work directory share: images, kept rows, compiled steps."""

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path):
        self.real = prepare.open_split(workdir, "train")
        self.val = prepare.open_split(workdir, "val")
        self.test = prepare.open_split(workdir, "test")
        self.imported = None
        if shards.has_split(workdir / "data", prepare.IMPORTED):
            self.imported = prepare.open_split(workdir, prepare.IMPORTED)
        self.pool = pools.open_pool(workdir / "pools" / "second")
        self.kept = filter_stage.kept_rows(workdir)
        self._config = config
        spec = models.classifier_spec(
            config.target, len(self.real.class_names), config.target.steps
        )
        self.trainer = models.Trainer(spec, self.real.image_shape, config, "target")
        self._predict = jax.jit(functools.partial(classifier.predict, spec=spec))

    def parts(self, arm: str, setting: target.Setting) -> Sequence[loader.Part]:
        """What every batch of an arm is made of."""
        batch = self._config.target.batch
        return target.parts(
            arm, setting, batch, real=self.real, pool=self.pool, kept=self.kept,
            imported=self.imported,
        )  # fmt: skip

    def probabilities(self, params: Any, records: Records) -> np.ndarray:
        """Class probabilities `[N, K]` of a trained model."""
        logits = classifier.in_batches(self._predict, params, records, self._config.target.batch)
        return np.asarray(jax.nn.softmax(logits))


def _search(
    config: ml_collections.ConfigDict,
    bench: Bench,
    folder: pathlib.Path,
    arm: str,
    grid: Sequence[target.Setting],
    bar: tqdm,
) -> target.Setting:
    """Chooses share and strength on validation; writes `choice.json` with every trial."""
    path = folder / "choice.json"
    trials = len(grid) if len(grid) > 1 else 0
    found = distributed.on_main(lambda: tables.read_json(path) if path.exists() else None)
    if found is not None:
        bar.update(trials)
        return target.Setting(found["share"], found["strength"])
    validation = {}
    for setting in grid[:trials]:
        params = bench.trainer.train(
            bench.parts(arm, setting),
            folder / "search",
            name=f"target {arm} search",
            seed=rng.fold(config.seed, "target", "search"),
            steps=config.target.steps,
            augment=tuple(config.data.augment),
            strength=setting.strength,
            checkpoints=False,
            show=False,
        )
        validation[setting] = distributed.on_main(lambda p=params: _validate(bench, p))
        bar.update()
    chosen = target.choose(validation) if validation else grid[0]
    rows = [{**dataclasses.asdict(s), "balanced_accuracy": v} for s, v in validation.items()]
    choice = {**dataclasses.asdict(chosen), "validation": rows}
    distributed.on_main(lambda: tables.write_json(path, choice))
    return chosen


def _validate(bench: Bench, params: Any) -> float:
    probs = bench.probabilities(params, bench.val)
    return classification.metrics(probs, bench.val.labels)["balanced_accuracy"]


def _train_and_test(
    config: ml_collections.ConfigDict,
    bench: Bench,
    folder: pathlib.Path,
    arm: str,
    setting: target.Setting,
    seed: int,
) -> None:
    """One target model: for a seed every arm starts from the same weights."""
    if distributed.on_main((folder / "result.json").exists):
        return
    params = bench.trainer.train(
        bench.parts(arm, setting),
        folder,
        name=f"target {arm}",
        seed=rng.fold(config.seed, "target", seed),
        steps=config.target.steps,
        augment=tuple(config.data.augment),
        strength=setting.strength,
        show=False,
    )
    distributed.on_main(lambda: _test(bench, params, folder))


def _test(bench: Bench, params: Any, folder: pathlib.Path) -> None:
    probs = bench.probabilities(params, bench.test)
    tables.write_npz(folder / "predictions.npz", probs=probs, labels=bench.test.labels)
    tables.write_json(folder / "result.json", classification.metrics(probs, bench.test.labels))


if __name__ == "__main__":
    cli.start(run)
