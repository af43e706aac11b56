"""Runs the programs as a user does: in a process of their own."""

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# For tests whose time is the compiler's: what it makes of a step need not be quick.
HASTY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TINY = "--config=tests/tiny.py"


_COMPILED = tempfile.TemporaryDirectory(prefix="vrn-tests-")


def environment() -> dict[str, str]:
    """The environment of a program under test; its compilations are kept for the next one."""
    return os.environ | {
        "TQDM_DISABLE": "1",
        "JAX_COMPILATION_CACHE_DIR": _COMPILED.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # what programs else start again for
    }


def run(program: str, *flags: str, timeout: int = 300) -> subprocess.CompletedProcess:
    """Runs `python -m launch.<program>` to its end."""
    return subprocess.run(
        [sys.executable, "-m", f"launch.{program}", *flags],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def start(program: str, *flags: str, log: pathlib.Path) -> subprocess.Popen:
    """Starts `python -m launch.<program>` and returns at once; output goes to `log`."""
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", f"launch.{program}", *flags],
            cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
