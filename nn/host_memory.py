"""Keeps freed memory in the process, so that a step on CPU need not ask the kernel for it again."""

import ctypes
import sys

# The option numbers of glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4
_ARENA_MAX = -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep what is freed; call it before the first computation.

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
