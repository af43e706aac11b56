"""Settings of a process, checked in a fresh one, since they cannot be undone."""

import os
import subprocess
import sys

import pytest

from nn import host

MEMORY = """
import resource
import numpy as np
from nn.host import keep_freed_memory

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
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    accepted, before, after = done.stdout.split()
    if accepted != "True":
        pytest.skip("this system's malloc has no such setting")
    assert int(before) > 0
    assert int(after) < int(before) / 4


CONVOLUTION = """
from nn import host
host.prepare()
import jax
import jax.numpy as jnp
from nn.conv import conv
x, w = jnp.ones((8, 32, 32, 32)), jnp.ones((3, 3, 32, 64))
print(jax.jit(conv).lower(x, w).compile().as_text())
"""


@pytest.mark.parametrize("chosen", ["", "--xla_cpu_experimental_ynn_fusion_type=+eltwise"])
def test_convolutions_are_eigens_unless_the_user_chose(chosen):
    settings = {"XLA_FLAGS": chosen, "JAX_ENABLE_COMPILATION_CACHE": "false", "VRN_NATIVE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CONVOLUTION],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | settings,
    )
    assert " convolution(" in done.stdout
    assert ("ynn_fusion(" in done.stdout or "kind=kCustom" in done.stdout) == bool(chosen)


RESTART = """
import os, sys
from nn import host
print("started", *sys.argv[1:], flush=True)
host.restart_with_huge_pages()
host.restart_with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"))
"""


def test_a_program_starts_again_once_where_that_gives_huge_pages(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(RESTART)
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = os.getcwd()
    done = subprocess.run(
        [sys.executable, program, "an argument"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    kernel = host._KERNEL
    if not kernel.is_file() or "[madvise]" not in kernel.read_text():
        pytest.skip("this kernel gives huge pages always or never")
    assert done.stdout.splitlines() == ["started an argument"] * 2 + ["glibc.malloc.hugetlb=1"]
