"""Kills a real training with SIGKILL at random moments, and looks whether it ends the same.

    python -m tests.launch.killing --trainer=gan --kills=20 --seed=0

Half of the kills fall while a checkpoint is being written, the others anywhere: while the program
starts, restores, trains. Every attempt is a process of its own, forked from one that has imported
everything and begun nothing, which is quicker than starting Python each time.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np

from launch import compiled, models, prepare, train_gan, train_translator
from tests import tiny

TRAINERS = {"gan": train_gan, "translator": train_translator}


def config(steps: int):
    """Trainings of many short steps and many checkpoints."""
    made = tiny.get_config()
    for name in TRAINERS:
        made[name].update(steps=steps, log_every=7, checkpoint_every=5, sample_every=10**6)
    return made


def kill_and_compare(name: str, folder: pathlib.Path, kills: int, seed: int) -> Iterator[str]:
    """Trains in `folder` once in peace and once under fire.

    Yields:
      A line for every kill.

    Raises:
      AssertionError: the two do not end with the same state and the same metrics, or the training
        was over before so many kills.
    """
    # An attempt gets on by 5 to 30 steps, or by some more where the machine is quick.
    steps = 60 + 40 * kills
    trainer = TRAINERS[name]
    peace, fire = folder / "peace", folder / "fire"
    _finish(lambda: prepare.run(config(steps), folder, False))
    for one in (peace, fire):
        one.mkdir()
        (one / "data").symlink_to(folder / "data")
    _finish(lambda: trainer.run(config(steps), peace, False))
    rng = np.random.default_rng(seed)
    for number in range(kills):
        while_saving = number % 2 == 0
        process = _fork(lambda: trainer.run(config(steps), fire, False))
        before = _newest(fire / name)
        if while_saving:
            # After the first new checkpoint: every attempt gets on.
            _wait(process, lambda: _newest(fire / name) > before and _half_written(fire / name))  # noqa: B023
            time.sleep(rng.uniform(0, 0.01))
        elif rng.random() < 0.5:
            # While it starts, restores and takes its first steps.
            time.sleep(rng.uniform(0, 1.5))
        else:
            # By steps, not by time, so that a quick machine is not through before.
            after = before + rng.integers(0, 20)
            _wait(process, lambda: _newest(fire / name) > after)  # noqa: B023
            time.sleep(rng.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), f"over before kill {number + 1}"
        saving = " while saving" if _half_written(fire / name) else ""
        yield f"kill {number + 1}: newest checkpoint {before} -> {_newest(fire / name)}{saving}"
    _finish(lambda: trainer.run(config(steps), fire, False))
    states = [trainer.restore(config(steps), one)[1] for one in (peace, fire)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    digest = models.tree_digest(states[1])
    metrics = [(one / name / "metrics.jsonl").read_bytes() for one in (peace, fire)]
    assert metrics[0] == metrics[1]
    yield f"after {kills} kills the state is the same to the last bit: {digest}"


def _fork(work) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        # Only errors are of interest.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            work()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _finish(work) -> None:
    _, status = os.waitpid(_fork(work), 0)
    assert status == 0, "a training that was left alone failed"


def _wait(process: int, reached) -> None:
    while not reached():
        found, status = os.waitpid(process, os.WNOHANG)
        assert found == 0, f"ended with {status} before it was killed"
        time.sleep(0.0005)


def _newest(run: pathlib.Path) -> int:
    folder = run / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


def _half_written(run: pathlib.Path) -> bool:
    return any((run / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainer", choices=TRAINERS, default="gan")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vrn-kill-") as made:
        compiled.keep(f"{made}/compiled")
        told = kill_and_compare(flags.trainer, pathlib.Path(made), flags.kills, flags.seed)
        for said in told:
            print(f"{time.monotonic() - began:6.1f} s  {said}", flush=True)
