"""Freed memory stays in the process; checked in a fresh one, since the setting cannot be undone."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from nn.host_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.full(2**24, 1, np.uint32)  # 64 MiB, taken and freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
accepted = keep_freed_memory()
faults()
print(accepted, before, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the setting is glibc's")
def test_large_memory_is_not_fetched_from_the_kernel_again():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    accepted, before, after = done.stdout.split()
    if accepted != "True":
        pytest.skip("this system's malloc has no such setting")
    assert int(before) > 0
    assert int(after) < int(before) / 4
