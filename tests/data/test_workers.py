import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from data import workers
from data.errors import UserError
from tests.launch import programs


def _square(number: int) -> tuple[int, int]:
    time.sleep(0.01 * (number % 3))  # later tasks may end first
    return number * number, os.getpid()


def _refuse(number: int) -> int:
    if number == 5:
        raise UserError("five is too much; give four.")
    return number


def _die(number: int) -> None:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)


def _sleep(folder: pathlib.Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(60)


@pytest.mark.parametrize(("alone", "processes"), [(0, 2), (60, 2), (0, 1)])
def test_results_come_in_order_whoever_does_the_work(monkeypatch, alone, processes):
    monkeypatch.setattr(workers, "ALONE_SECONDS", alone)
    results, by = zip(*workers.ordered(_square, range(20), processes), strict=True)
    assert results == tuple(i * i for i in range(20))
    assert by[0] == os.getpid()
    assert len(set(by[1:]) - {os.getpid()}) == (2 if not alone and processes > 1 else 0)


def test_tasks_are_taken_a_few_ahead_only(monkeypatch):
    monkeypatch.setattr(workers, "ALONE_SECONDS", 0)
    taken = []
    found = workers.ordered(_square, (taken.append(i) or i for i in range(500)), 2)
    for _ in range(20):
        next(found)
    found.close()
    assert len(taken) <= 20 + 2 * workers._AHEAD


def test_an_error_of_another_process_is_raised_here(monkeypatch):
    monkeypatch.setattr(workers, "ALONE_SECONDS", 0)
    with pytest.raises(UserError, match="five is too much"):
        list(workers.ordered(_refuse, range(20), 2))


def test_a_killed_process_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setattr(workers, "ALONE_SECONDS", 0)
    with pytest.raises(UserError, match=r"was killed, .* --config\.data\.workers=1"):
        list(workers.ordered(_die, range(20), 2))


def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = f"""
import pathlib
from data import workers
from tests.data import test_workers
tasks = [pathlib.Path({str(tmp_path)!r})] * 3
list(workers._shared(test_workers._sleep, iter(tasks), 2))
"""
    program = subprocess.Popen([sys.executable, "-c", script], cwd=programs.ROOT)
    while len(found := list(tmp_path.iterdir())) < 2:
        assert program.poll() is None
        time.sleep(0.05)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    until = time.monotonic() + 10
    while any(pathlib.Path("/proc", path.name).exists() for path in found):
        assert time.monotonic() < until
        time.sleep(0.05)
