"""Repeats the loop over generators and their seeds, and puts all target models in one table.

    python -m launch.study --config=configs/chest_xray.py --workdir=runs/cxr --gan_seeds=2
    python -m launch.study --config=configs/phantom_rare.py --workdir=runs/rare \
        --generators=gan,translator

Each loop has its own work directory below --workdir, with its own report; the data split is the
same for all. A study that was killed goes on where it was.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data import tables
from data.errors import UserError
from evaluation import statistics
from launch import cli, distributed, pipeline, prepare, stage, validate
from vrn import target

GAN_SEEDS = flags.DEFINE_integer(
    "gan_seeds", 2, "Number of times the loop is run with each generator, with config.seed, "
    "config.seed + 1, …", lower_bound=1,
)  # fmt: skip
GENERATORS = flags.DEFINE_list(
    "generators", [], "Of gan and translator, those to compare; by default "
    "--config.generate.generator alone.",
)  # fmt: skip
METRICS = {"balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "auc": "AUC"}
REFERENCE = "vrn"

Loops = Mapping[str, Sequence[pathlib.Path]]  # generator -> its work directories, one per seed


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Runs the loops; writes `WORKDIR/results.json` and `WORKDIR/table.md`."""
    names = GENERATORS.value or [config.generate.generator]
    if len(set(names) & set(stage.GENERATORS)) < len(names):
        raise UserError(
            f"--generators={','.join(names)}: give some of {', '.join(stage.GENERATORS)}, each once"
        )
    loops: dict[str, list[pathlib.Path]] = {name: [] for name in names}
    configs = {}
    for name in names:
        for seed in range(config.seed, config.seed + GAN_SEEDS.value):
            folder = workdir / (f"{name}-seed{seed}" if len(names) > 1 else f"seed{seed}")
            configs[folder] = repeated = config.copy_and_resolve_references()
            repeated.seed = seed
            repeated.generate.generator = name
            validate.check(repeated)  # all of them before the first takes an hour
            loops[name].append(folder)
    for folder, repeated in configs.items():
        cli.say(f"study: {repeated.generate.generator}, seed {repeated.seed}, in {folder}")
        pipeline.run(repeated, folder, overwrite)
    return _summarise(config, workdir, loops)


@distributed.main_only
def _summarise(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, loops: Loops
) -> pathlib.Path:
    result = pool(loops, resamples=config.report.resamples)
    tables.write_json(workdir / "results.json", result)
    first = next(iter(loops.values()))[0]
    names = prepare.open_split(first, "train").class_names
    with tables.atomic_file(workdir / "table.md") as aside:
        aside.write_text(table(result, METRICS | rare(config, names)))
    return workdir / "table.md"


def rare(config: ml_collections.ConfigDict, class_names: Sequence[str]) -> dict[str, str]:
    """The recall of each class that `config.data.per_class` names, as a metric and in words."""
    keys = prepare.per_class(config.data.per_class)
    return {
        f"recall/{k}": f"recall of {name}"
        for k, name in enumerate(class_names)
        if name in keys or str(k) in keys
    }


def pool(loops: Loops, resamples: int) -> dict[str, Any]:
    """Summarises the target models of several work directories as seeds of one experiment.

    Of several generators, arms that take images of a pool come once for each, as
    'vrn of translator'; the others have nothing of a generator and are those of the first.

    Raises:
      UserError: the work directories have other images.
    """
    folders = [folder for found in loops.values() for folder in found]
    records = {folder: stage.require(folder, "target") for folder in folders}
    digests = {folder: stage.require(folder, "data")["facts"]["digest"] for folder in folders}
    for folder in folders:
        if digests[folder] != digests[folders[0]]:
            raise UserError(
                f"{folder} and {folders[0]} were prepared from other images; give another "
                "--workdir, or pass --overwrite to make both again"
            )
    outcomes: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name, found in loops.items():
        for folder in found:
            for arm in records[folder]["facts"]["arms"]:
                named = _named(arm, name, loops)
                if named is not None:
                    outcomes.setdefault(named, []).extend(_outcomes(folder, arm, records[folder]))
    # Target models of one training of a generator share its luck; the bootstrap draws trainings
    # first, then their models. Of a single one it draws the models, and says nothing of that luck.
    first = next(iter(loops.values()))
    per_loop = [records[folder]["facts"]["seeds"] for folder in first]
    drawn = np.repeat(np.arange(len(first)), per_loop) if len(first) > 1 else None
    patients = prepare.open_split(folders[0], "test").groups
    result: dict[str, Any] = {"arms": {}, "paired": {}}
    for reference in dict.fromkeys(_named(REFERENCE, name, loops) for name in loops):
        one = statistics.summarise(
            outcomes, reference=reference, groups=patients, seed_groups=drawn, resamples=resamples
        )
        result["arms"] = one["arms"]
        result["paired"] |= one["paired"]
    reports = [tables.read_json(folder / "report" / "results.json") for folder in folders]
    return {
        **result,
        "gan_seeds": [str(folder) for folder in folders],
        "vrn": [found["vrn"] for found in reports],
        "seconds": [found["seconds"] for found in reports],
        "code": [records[folder]["code"] for folder in folders],
        "device": [records[folder]["device"] for folder in folders],
    }


def _named(arm: str, generator: str, loops: Loops) -> str | None:
    """What an arm of a generator's loops is called beside those of others; None where left out."""
    if len(loops) == 1:
        return arm
    if target.ARMS[arm].extra == "pool":
        return f"{arm} of {generator}"
    return arm if generator == next(iter(loops)) else None


def _outcomes(
    folder: pathlib.Path, arm: str, record: Mapping[str, Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each target model of an arm, probabilities [N, K] and labels [N]."""
    found = []
    for seed in range(record["facts"]["seeds"]):
        with np.load(folder / "target" / arm / str(seed) / "predictions.npz") as arrays:
            found.append((arrays["probs"], arrays["labels"]))
    return found


def table(result: dict[str, Any], metrics: Mapping[str, str]) -> str:
    """Markdown: every arm and every paired difference with its 95 % interval, in points.

    Args:
      result: of `pool`.
      metrics: those to show, with their names in words.
    """

    def cell(value: dict[str, Any], sign: str = "") -> str:
        if value["mean"] is None:  # the recall of a class without test images
            return "\N{EN DASH}"
        # Adding zero takes the sign from what rounds to nothing.
        mean, low, high = (round(100 * x, 1) + 0.0 for x in (value["mean"], *value["ci95"]))
        return f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"

    head = ["| | " + " | ".join(metrics.values()) + " |", "|---" * (len(metrics) + 1) + "|"]
    arms = [
        f"| {arm} | " + " | ".join(cell(values[m]) for m in metrics) + " |"
        for arm, values in result["arms"].items()
    ]
    paired = [
        f"| {pair.replace('-', ' minus ', 1)} | "
        + " | ".join(cell(values[m], "+") for m in metrics)
        + " |"
        for pair, values in result["paired"].items()
    ]
    return "\n".join([*head, *arms, "", *head, *paired, ""])


def main() -> None:
    """Entry point of `vrn-study`."""
    cli.start(run)


if __name__ == "__main__":
    main()
