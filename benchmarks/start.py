"""Seconds until the first step of a training is done: with nothing compiled, and compiled before.

    python -m benchmarks.start [--size=64] [--width=32] [--repeats=3]

The GAN and the VRNs of the default configuration on prepared images, each training in a process of
its own: first with an empty folder of compiled steps (--compiled), then with what that process left
there. The C++ of nn/native is compiled beforehand. `training` counts from the beginning of the
training, `program` from the start of the process; both are what a training prints. Medians.
"""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from absl import app, flags, logging

from benchmarks import options, stream
from launch import compiled, train_gan
from nn import host
from nn.native import build

FLAGS = flags.FlagValues()
_SIZE = flags.DEFINE_integer("size", 64, "Pixels a side; grey.", flag_values=FLAGS)
_WIDTH = flags.DEFINE_integer("width", 32, "Width of the GAN.", 1, flag_values=FLAGS)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Times to take all.", 1, flag_values=FLAGS)
_TRAIN = flags.DEFINE_enum("train", None, ["gan", "18", "50"], "Only this.", flag_values=FLAGS)
_FOLDER = flags.DEFINE_string("folder", None, "For --train.", flag_values=FLAGS)
_COMPILED = flags.DEFINE_string("compiled", None, "For --train.", flag_values=FLAGS)

_NAMES = {"gan": "GAN", "18": "VRN, ResNet-18", "50": "VRN, ResNet-50"}
_TIMES = ("first_step", "first_step_since_program_start")


def train(kind: str, folder: pathlib.Path) -> list[float]:
    """Trains in this process; the seconds to the first step."""
    config = stream.make_config(folder, _SIZE.value, _WIDTH.value, batch=128)
    compiled.keep(_COMPILED.value)
    if kind == "gan":
        train_gan.run(config, folder / "run", False)
    else:
        config.vrn.depth = int(kind)
        stream.train_vrn_only(config, folder / "run")
    log = folder / "run" / ("gan" if kind == "gan" else "vrn") / "timing.jsonl"
    first = json.loads(log.read_text().splitlines()[0])
    return [first[name] for name in _TIMES]


def start(kind: str, prepared: pathlib.Path, kept: pathlib.Path) -> list[float]:
    """The same in a process of its own, on a copy of a work directory."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(prepared, pathlib.Path(folder) / "run")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.start", f"--train={kind}"),
                *(f"--folder={folder}", f"--compiled={kept}"),
                *(f"--size={_SIZE.value}", f"--width={_WIDTH.value}"),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return [float(word) for word in done.stdout.split()[-len(_TIMES) :]]


def main(argv: list[str]) -> None:
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    host.prepare()
    if _TRAIN.value:
        print(*train(_TRAIN.value, pathlib.Path(_FOLDER.value)))
        return
    build.load()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        config = stream.make_config(folder, _SIZE.value, _WIDTH.value, batch=128)
        prepared = stream.make_data(config, folder)
        print(f"{'training':16} {'compiled':9} {'training, s':>12} {'program, s':>12}")
        for kind, name in _NAMES.items():
            rounds: dict[str, list[list[float]]] = {"anew": [], "before": []}
            for number in range(_REPEATS.value):
                for seconds in rounds.values():
                    seconds.append(start(kind, prepared, folder / f"compiled-{kind}-{number}"))
            for when, seconds in rounds.items():
                medians = map(statistics.median, zip(*seconds, strict=True))
                print(f"{name:16} {when:9}", *(f"{one:12.1f}" for one in medians), flush=True)


if __name__ == "__main__":
    options.run(main, FLAGS)
