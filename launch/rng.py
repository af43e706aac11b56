"""Randomness: one root seed per run; every use has a name, and nothing is carried."""

import zlib

import jax


def fold(seed: int, *purpose: str | int) -> int:
    """Returns a 31-bit seed for a named purpose, for host-side generators.

    Args:
      seed: root seed of the run.
      *purpose: names and numbers, e.g. `"target", 3, "loader"`.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return zlib.crc32(text.encode()) & 0x7FFFFFFF


def key(seed: int, *purpose: str | int) -> jax.Array:
    """Returns the jax key of a named purpose: the root key with each name folded in."""
    root = jax.random.key(seed)
    for name in purpose:
        number = name if isinstance(name, int) else zlib.crc32(name.encode())
        root = jax.random.fold_in(root, number)
    return root
