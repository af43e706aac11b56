"""Damage that any file may come to: bytes lost, turned over, moved, or replaced."""

import numpy as np


def truncated(rng: np.random.Generator, content: bytes) -> bytes:
    """Cut off anywhere."""
    return content[: rng.integers(0, len(content))]


def flipped(rng: np.random.Generator, content: bytes) -> bytes:
    """One to eight bits turned over, half of them near the start, where headers are."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        end = len(damaged) if rng.random() < 0.5 else min(400, len(damaged))
        damaged[rng.integers(end)] ^= 1 << rng.integers(8)
    return bytes(damaged)


def overwritten(rng: np.random.Generator, content: bytes) -> bytes:
    """A run of bytes that is all zeros, all ones, or noise."""
    start, length = rng.integers(len(content)), rng.integers(1, 64)
    run = (bytes(length), b"\xff" * int(length), rng.bytes(length))[rng.integers(3)]
    return content[:start] + run + content[start + length :]


def spliced(rng: np.random.Generator, content: bytes) -> bytes:
    """A piece moved elsewhere, left out, or doubled."""
    a, b, c = sorted(rng.integers(0, len(content) + 1, 3).tolist())
    pieces = ([content[:a], content[b:c], content[a:b], content[c:]], [content[:a], content[b:]],
              [content[:b], content[a:]])  # fmt: skip
    return b"".join(pieces[rng.integers(3)])


def noise(rng: np.random.Generator, content: bytes) -> bytes:
    """The first bytes of the right kind and nothing but noise after."""
    kept = (4, 16, 132, 348)[rng.integers(4)]
    return content[:kept] + rng.bytes(int(rng.integers(0, 2000)))


ANY = (truncated, flipped, overwritten, spliced, noise)
