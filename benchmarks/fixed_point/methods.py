"""What is compared, on which images, and by which commands.

A measurement runs the programs of the project one after the other, as anybody can, in a work
directory of its own. An interrupted one goes on where its programs do.
"""

import importlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.cells import Cell
from data import tables
from data.errors import UserError

_ROOT = pathlib.Path(__file__).parents[2]


class Method(NamedTuple):
    """One row of a table.

    Attributes:
        maps: what `launch.evaluate --maps` calls it.
        trained_by: the program that trains it, if any.
        settings: of the configuration, changed for it.
    """

    maps: str
    trained_by: str | None = None
    settings: Mapping[str, Any] = {}


_TRANSLATOR, _DETECTOR = "launch.train_translator", "launch.train_detector"
MAIN: Mapping[str, Method] = {
    "Fixed-Point GAN": Method("translator", _TRANSLATOR),
    "StarGAN": Method(
        "translator",
        _TRANSLATOR,
        {"translator.fixed_point": False, "translator.output": "plain"},
    ),
    "linear autoencoder": Method("linear"),
    "autoencoder": Method("autoencoder", _DETECTOR),
    "VAE": Method("vae", _DETECTOR),
    "Grad-CAM": Method("gradcam", _DETECTOR),
    "U-Net": Method("unet", _DETECTOR),
}


# What became of Fixed-Point GAN otherwise; measured when asked for.
VARIANTS: Mapping[str, Method] = {
    "CelebA weights": Method(
        "translator",
        _TRANSLATOR,
        {
            "translator.domain_weight": 1.0,
            "translator.cycle_weight": 10.0,
            "translator.identity_weight": 10.0,
        },
    ),
    "blend": Method("translator", _TRANSLATOR, {"translator.output": "blend"}),
    "atanh": Method("translator", _TRANSLATOR, {"translator.output": "atanh"}),
    "tanh": Method("translator", _TRANSLATOR, {"translator.output": "tanh"}),
    # Of slices, with whose heights nothing is done.
    "unmatched": Method("translator", _TRANSLATOR, {"translator.match_heights": 0.0}),
    "unmatched Grad-CAM": Method("gradcam", _DETECTOR, {"translator.match_heights": 0.0}),
}
METHODS: Mapping[str, Method] = {**MAIN, **VARIANTS}


class Data(NamedTuple):
    """Images that the methods are compared on.

    Attributes:
        config: name of the module in `configs`.
        settings: of it, changed so that a CPU can measure it.
    """

    config: str
    settings: Mapping[str, Any] = {}


DATA: Mapping[str, Data] = {
    "phantom": Data("phantom_translate"),
    "few phantoms": Data(
        "phantom_translate",
        {
            "data.source": "tfds:vrn_phantom/64",
            "data.val_fraction": 0.15,
            "data.test_fraction": 0.25,
        },
    ),
    "brain": Data("brain_translate"),
}


def commands(data: str, method: str, source: str | None = None) -> list[list[str]]:
    """Arguments of python for the programs of one measurement, without seed and work directory.

    Args:
        data: one of `DATA`.
        method: one of `METHODS`.
        source: takes the place of the configuration's `data.source`.
    """
    on, how = DATA[data], METHODS[method]
    settings = {**on.settings, **how.settings} | ({"data.source": source} if source else {})
    shared = [f"--config=configs/{on.config}.py"]
    shared += [f"--config.{name}={value}" for name, value in settings.items()]
    programs = [["launch.prepare"], ["launch.evaluate", "--task=detection", f"--maps={how.maps}"]]
    if how.trained_by == _TRANSLATOR:
        programs.insert(1, [_TRANSLATOR])
    elif how.trained_by:
        programs.insert(1, [how.trained_by, f"--maps={how.maps}"])
    return [["-m", *program, *shared] for program in programs]


def key(data: str, method: str, source: str | None = None) -> str:
    """Digest of all that a measurement depends on, but for its seed and the code."""
    config = importlib.import_module(f"configs.{DATA[data].config}").get_config()
    return tables.json_sha256(
        {"config": config.to_dict(), "commands": commands(data, method, source)}
    )


def folder(workdir: pathlib.Path, data: str, method: str) -> pathlib.Path:
    """Where the measurements of a method on some data are."""
    return workdir / data.replace(" ", "_") / method.replace(" ", "_")


def measure(cell: Cell, place: pathlib.Path, programs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Runs the programs with a cell's seed and returns what `launch.evaluate` wrote.

    Their output goes to `place`/run/seed=N.log.

    Raises:
        UserError: one of them failed.
    """
    workdir = place / "run" / f"seed={cell.seed}"
    workdir.parent.mkdir(parents=True, exist_ok=True)
    log = workdir.with_suffix(".log")
    # Absolute, since the programs start in the project's folder, where their configurations are.
    own = [f"--config.seed={cell.seed}", f"--workdir={workdir.absolute()}"]
    with log.open("a") as said:
        for program in programs:
            done = subprocess.run(
                [sys.executable, *program, *own], cwd=_ROOT, stdout=said, stderr=said, check=False
            )
            if done.returncode:
                raise UserError(
                    f"{' '.join(['python', *program, *own])} ended with exit code "
                    f"{done.returncode}; {log} tells why, and the same command goes on afterwards"
                )
    name = METHODS[cell.setting["method"]].maps
    told = "detection.json" if name == "translator" else f"detection-{name}.json"
    return json.loads((workdir / "evaluation" / told).read_text())
