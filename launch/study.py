"""Repeats the loop over GAN seeds and pools the target models of all of them in one table.

    python -m launch.study --config=configs/chest_xray.py --workdir=runs/cxr --gan_seeds=2

Each GAN seed has its own work directory below --workdir, with its own report; the data split is the
same for all. A study that was killed goes on where it was.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data import tables
from evaluation import statistics
from launch import cli, distributed, pipeline, prepare, stage

GAN_SEEDS = flags.DEFINE_integer(
    "gan_seeds", 2, "Number of times the loop is run, with config.seed, config.seed + 1, …",
    lower_bound=1,
)  # fmt: skip
METRICS = {"balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "auc": "AUC"}


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Runs the loops; writes `WORKDIR/results.json` and `WORKDIR/table.md`."""
    folders = []
    for seed in range(config.seed, config.seed + GAN_SEEDS.value):
        repeated = ml_collections.ConfigDict(config)
        repeated.seed = seed
        folders.append(workdir / f"seed{seed}")
        cli.say(f"study: GAN seed {seed} in {folders[-1]}")
        pipeline.run(repeated, folders[-1], overwrite)
    return _summarise(config, workdir, folders)


@distributed.main_only
def _summarise(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, folders: Sequence[pathlib.Path]
) -> pathlib.Path:
    result = pool(folders, resamples=config.report.resamples)
    tables.write_json(workdir / "results.json", result)
    with tables.atomic_file(workdir / "table.md") as aside:
        aside.write_text(table(result))
    return workdir / "table.md"


def pool(folders: Sequence[pathlib.Path], resamples: int) -> dict[str, Any]:
    """Summarises the target models of several work directories as seeds of one experiment."""
    records = [stage.require(folder, "target") for folder in folders]
    outcomes: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for folder, record in zip(folders, records, strict=True):
        for arm in record["facts"]["arms"]:
            for seed in range(record["facts"]["seeds"]):
                with np.load(folder / "target" / arm / str(seed) / "predictions.npz") as found:
                    outcomes.setdefault(arm, []).append((found["probs"], found["labels"]))
    # Target models of one GAN share its luck; the bootstrap draws GANs first, then their models.
    gans = np.repeat(np.arange(len(folders)), [record["facts"]["seeds"] for record in records])
    patients = prepare.open_split(folders[0], "test").groups
    reports = [tables.read_json(folder / "report" / "results.json") for folder in folders]
    return {
        **statistics.summarise(outcomes, groups=patients, seed_groups=gans, resamples=resamples),
        "gan_seeds": [str(folder) for folder in folders],
        "vrn": [found["vrn"] for found in reports],
        "seconds": [found["seconds"] for found in reports],
        "code": [record["code"] for record in records],
        "device": [record["device"] for record in records],
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: every arm and every paired difference with its 95 % interval, in points."""

    def cell(value: dict[str, Any], sign: str = "") -> str:
        # Adding zero takes the sign from what rounds to nothing.
        mean, low, high = (round(100 * x, 1) + 0.0 for x in (value["mean"], *value["ci95"]))
        return f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"

    head = ["| | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 1) + "|"]
    arms = [
        f"| {arm} | " + " | ".join(cell(values[m]) for m in METRICS) + " |"
        for arm, values in result["arms"].items()
    ]
    paired = [
        f"| {pair.replace('-', ' minus ', 1)} | "
        + " | ".join(cell(values[m], "+") for m in METRICS)
        + " |"
        for pair, values in result["paired"].items()
    ]
    return "\n".join([*head, *arms, "", *head, *paired, ""])


def main() -> None:
    """Entry point of `vrn-study`."""
    cli.start(run)


if __name__ == "__main__":
    main()
