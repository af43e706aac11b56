"""SIGTERM: the step is finished, the state saved, and the same command goes on."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from launch import place, preemption
from tests.launch import programs, test_guard, toy


def _terminate_at(step):
    def hook(number, state):
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return hook


def test_saved_at_once_and_resumed_with_the_same_end(tmp_path):
    whole = toy.train(tmp_path / "whole", 30)
    before = signal.getsignal(signal.SIGTERM)
    for step in (7, 20):  # between two checkpoints, and at one
        with pytest.raises(preemption.PreemptedError, match=f"saved at step {step}, "):
            toy.train(tmp_path / "parts", 30, hook=_terminate_at(step))
        assert toy.saved(tmp_path / "parts")[-1] == step
        assert signal.getsignal(signal.SIGTERM) is before
    np.testing.assert_array_equal(toy.train(tmp_path / "parts", 30).weights, whole.weights)
    assert toy.lines(tmp_path / "parts") == toy.lines(tmp_path / "whole")


@pytest.mark.parametrize(
    ("poison", "step"),
    [
        (test_guard.at(7, 13), 12),
        (test_guard.from_on_until_rolled_back(23), 25),
        (test_guard.from_on_until_rolled_back(23), 27),  # already as many as the limit
    ],
)
def test_saved_amid_dropped_updates_too(tmp_path, poison, step):
    """What is saved there is not gone back to, and what was told is not told again."""
    options = {"poison": poison, "rules": toy.rules(skip_limit=4)}
    whole = toy.train(tmp_path / "whole", 60, **options)
    with pytest.raises(preemption.PreemptedError, match=f"saved at step {step}, "):
        toy.train(tmp_path / "parts", 60, hook=_terminate_at(step), **options)
    assert toy.saved(tmp_path / "parts")[-1] == step
    np.testing.assert_array_equal(
        toy.train(tmp_path / "parts", 60, **options).weights, whole.weights
    )
    assert toy.lines(tmp_path / "parts") == toy.lines(tmp_path / "whole")


def test_a_training_that_is_not_saved_says_so(tmp_path):
    with pytest.raises(preemption.PreemptedError, match="short and not saved"):
        toy.train(tmp_path, 30, checkpoints=False, hook=_terminate_at(7))


def test_a_signal_during_the_last_save_is_not_lost(tmp_path, monkeypatch):
    save = place.save

    def interrupted(saved, here, loader):
        save(saved, here, loader)
        if here.step == 20:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(place, "save", interrupted)
    with pytest.raises(preemption.PreemptedError, match="at the end of a training"):
        toy.train(tmp_path, 20)
    assert toy.saved(tmp_path) == [10, 20]
    assert int(toy.train(tmp_path, 20).step) == 20


def _start(workdir, steps, processes=1, process=0, port=0):
    return subprocess.Popen(
        [
            sys.executable, "-m", "tests.launch.stopped", programs.TINY, f"--workdir={workdir}",
            f"--steps={steps}", f"--processes={processes}", f"--process={process}",
            f"--port={port}",
        ],
        cwd=programs.ROOT, env=programs.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def _wait_for_lines(workdir, started):
    deadline = time.monotonic() + 120
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < 2:
        assert all(process.poll() is None for process in started), started[0].communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("processes", [1, 2])
def test_program_ends_with_143_and_one_line(tmp_path, processes):
    """Of several processes one gets the signal, and all stop after the same step."""
    port = _free_port()
    started = [_start(tmp_path, 10**6, processes, i, port) for i in range(processes)]
    _wait_for_lines(tmp_path, started)
    started[-1].send_signal(signal.SIGTERM)
    lines = []
    for process in started:
        _, err = process.communicate(timeout=60)
        assert process.returncode == preemption.EXIT_CODE == 143, err
        lines.append(err.strip().splitlines()[-1])
    pattern = r"test: stopped by SIGTERM and saved at step (\d+), (\d+\.\d) s after the signal; the"
    steps = {int(re.match(pattern, line)[1]) for line in lines}
    assert len(steps) == 1
    (step,) = steps
    assert toy.saved(tmp_path) == [step]
    port = _free_port()
    started = [_start(tmp_path, step + 5, processes, i, port) for i in range(processes)]
    ends = []
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        ends += [line for line in out.splitlines() if line.startswith("weights")]
    assert len(ends) == processes
    assert len(set(ends)) == 1
    assert toy.saved(tmp_path) == [step, step + 5]
