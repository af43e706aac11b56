import subprocess
import sys

from tests.launch import programs


def test_a_killed_server_loses_no_label_that_it_acknowledged():
    """A few kills; `python -m tests.launch.review_killing` has 50 raters and 10,000 labels."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.launch.review_killing", "--raters=8", "--labels=400",
         "--kills=3"],
        cwd=programs.ROOT, env=programs.environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    *killed, end = done.stdout.splitlines()
    assert len(killed) == 3
    assert "all 400 acknowledged labels are there, each of them once" in end
