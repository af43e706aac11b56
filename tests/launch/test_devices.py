"""A training goes on with another number of devices: the same batches, the same losses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.launch import programs, toy

STOPS = {8: 7, 4: 14, 1: 21}  # devices to the step at which they are taken away


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    for devices, until in STOPS.items():
        flag = f"--xla_force_host_platform_device_count={devices} {programs.HASTY}"
        whole = max(STOPS.values()) if devices == 8 else 0
        done = subprocess.run(
            [sys.executable, "-m", "tests.launch.trainings", str(folder), str(whole), str(until)],
            cwd=programs.ROOT, env=programs.environment() | {"XLA_FLAGS": flag},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def _batches(folder):
    return [json.loads(line) for line in (folder / "batches.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["gan", "classifier"])
def test_eight_then_four_then_one(folder, kind):
    whole, parts = folder / "whole" / kind, folder / "parts" / kind
    batches = _batches(whole)
    assert batches == _batches(parts)
    assert [step for step, _ in batches] == list(range(21))
    lines = list(zip(toy.lines(whole), toy.lines(parts), strict=True))
    assert len(lines) == 21
    for one, other in lines:
        for metric in one:
            if "loss" in metric:
                np.testing.assert_allclose(other[metric], one[metric], rtol=1e-5)
    # They are not the same bits, or the devices were not taken away.
    assert any(one != other for one, other in lines)
