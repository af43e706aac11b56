import os
import subprocess
import sys

import pytest

from tests.launch import programs


@pytest.mark.parametrize("trainer", ["gan", "translator"])
def test_kill_minus_nine_at_random_moments_changes_nothing(trainer):
    """A few kills; `python -m tests.launch.killing` has 20, $VRN_KILLS as many as it says."""
    kills = os.environ.get("VRN_KILLS", "3")
    done = subprocess.run(
        [sys.executable, "-m", "tests.launch.killing", f"--trainer={trainer}", f"--kills={kills}"],
        cwd=programs.ROOT, env=programs.environment() | {"XLA_FLAGS": programs.HASTY},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    *killed, end = done.stdout.splitlines()
    assert len(killed) == int(kills)
    assert any("while saving" in line for line in killed)
    assert "the same to the last bit" in end
