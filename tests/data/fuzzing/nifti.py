"""NIfTI volumes with absurd headers, and NIfTI bombs."""

import gzip
import struct
import zlib

import numpy as np


def absurd_nifti(rng: np.random.Generator, content: bytes) -> bytes:
    """Another number in the header of a volume."""
    plain = bytearray(gzip.decompress(content))
    place, kind = (
        (40, "<h"), (42, "<h"), (44, "<h"), (46, "<h"), (48, "<h"), (70, "<h"), (72, "<h"),
        (108, "<f"), (112, "<f"), (116, "<f"), (252, "<h"), (254, "<h"), (280, "<f"), (348, "<i"),
    )[rng.integers(14)]  # fmt: skip
    values = (-1, 0, 1, 2, 7, 64, 128, 511, 32767) if kind == "<h" else (
        0, -1, 1e38, np.nan, np.inf, 352, 1e9)  # fmt: skip
    if kind == "<i":
        values = (1, 2**24, -1)
    plain[place : place + struct.calcsize(kind)] = struct.pack(
        kind, values[rng.integers(len(values))]
    )
    return gzip.compress(bytes(plain), 1, mtime=0)


def bomb_nifti(rng: np.random.Generator, content: bytes) -> bytes:
    """A gigabyte, or an exabyte, promised in a few kilobytes."""
    plain = bytearray(gzip.decompress(content)[:352])
    dims = ((2000, 2000, 300), (32767, 32767, 32767), (32767, 32767, 4))[rng.integers(3)]
    plain[40:56] = struct.pack("<8h", 3, *dims, 1, 1, 1, 1)
    packer = zlib.compressobj(9, wbits=31)
    body = packer.compress(bytes(plain))
    body += b"".join(packer.compress(bytes(1 << 20)) for _ in range(1200))
    return body + packer.flush()
