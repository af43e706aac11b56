"""How much memory a file may ask for: as much as its own size makes plausible.

A few kilobytes can promise an exabyte. Honest compression of images is below 100 to 1; what is
small anyway may be more.
"""

import math
import zlib
from collections.abc import Iterable
from typing import BinaryIO

_RATIO = 100
_SMALL = 1 << 28  # bytes that any file may need
_BLOCK = 1 << 20


def allowed(size: int) -> int:
    """How many bytes a file of ``size`` bytes may need."""
    return max(_SMALL, _RATIO * size)


def complaint(needed: int, size: int) -> str | None:
    """Why a file of ``size`` bytes may not need ``needed`` bytes; None where it may."""
    if needed <= allowed(size):
        return None
    return f"would need {needed / 2**30:.3g} GiB of memory, being {size / 2**20:.3g} MiB itself"


def product(numbers: Iterable[int]) -> int:
    """The product of sizes, without overflow."""
    return math.prod(int(number) for number in numbers)


def inflated(file: BinaryIO, size: int) -> int:
    """How many bytes a raw deflate stream becomes; stops soon after what `complaint` allows."""
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while (block := file.read(_BLOCK)) and complaint(total, size) is None:
        while block and complaint(total, size) is None:
            total += len(inflater.decompress(block, _BLOCK))
            block = inflater.unconsumed_tail
    return total
