"""What a process does before its first computation, so that steps on CPU are fast."""

import ctypes
import os
import pathlib
import platform
import sys

# The option numbers of glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_ARENA_MAX = -8
_LARGEST = 2**31 - 1

_FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"
_HUGE_PAGES = "glibc.malloc.hugetlb"
_KERNEL = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def prepare() -> None:
    """Chooses XLA's faster convolutions and how memory is kept; call it before the first operation.

    Results stay the same but for rounding; only computations on CPU are touched.
    """
    choose_convolutions()
    if _HUGE_PAGES not in os.environ.get("GLIBC_TUNABLES", ""):
        keep_freed_memory()


def restart_with_huge_pages() -> None:
    """Starts this program again with its memory in huge pages, which only a start can choose.

    Training steps on CPU take 15 to 25 % less time, since they walk through far more memory than
    the processor's table of small pages covers. Call it before anything is done; it returns where
    there is nothing to gain: not Linux, an old glibc, a kernel that gives huge pages always or
    never, or a program that has them.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split("."))) < (2, 35):
        return
    if _HUGE_PAGES in tunables or not _KERNEL.is_file() or "[madvise]" not in _KERNEL.read_text():
        return
    tunables = ":".join(filter(None, (tunables, f"{_HUGE_PAGES}=1")))
    sys.stdout.flush()
    environment = os.environ | {"GLIBC_TUNABLES": tunables}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def choose_convolutions() -> None:
    """Has XLA compute convolutions on CPU with Eigen in place of YNNPACK.

    YNNPACK's take up to twice as long on every layer of `benchmarks.convolution`; its matrix
    products and reductions, which stay, are the faster ones. A choice in XLA_FLAGS is kept.
    """
    chosen = os.environ.get("XLA_FLAGS", "")
    if _FUSIONS not in chosen:
        os.environ["XLA_FLAGS"] = f"{chosen} {_FUSIONS}=-individual_convolution".strip()


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep what is freed.

    Each run of a compiled step allocates its temporary memory and frees it at the end. Beyond
    32 MiB malloc hands such memory back at once, and the kernel clears every page anew in the next
    step, which costs up to a third of its time, in small pages; in huge ones it is the other way
    round. Elsewhere than on glibc this does nothing.

    Returns:
        Whether the settings were accepted.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_ARENA_MAX, 1))
    accepted = [mallopt(option, value) == 1 for option, value in settings]
    return all(accepted)
