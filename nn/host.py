"""What a process does before its first computation, so that steps on CPU are fast."""

import ctypes
import os
import sys

# The option numbers of glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_ARENA_MAX = -8
_LARGEST = 2**31 - 1

_FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"


def prepare() -> None:
    """Keeps freed memory and chooses XLA's faster convolutions; call it before the first operation.

    Results stay the same but for rounding; only computations on CPU are touched.
    """
    choose_convolutions()
    keep_freed_memory()


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
    step, which costs up to a third of its time. Elsewhere than on glibc this does nothing.

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
