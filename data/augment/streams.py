"""Random numbers that belong to a row of a batch, and blocks of rows that stay in the cache."""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

# Batches are worked on in blocks of about this many numbers: temporaries then stay in the cache and
# in the allocator's hands. Whole-batch temporaries spend most of the time in page faults.
_BLOCK_NUMBERS = 1 << 16


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Row ranges of a batch [B, ...] of about 65,536 numbers each, and at least one row."""
    rows = max(1, _BLOCK_NUMBERS // math.prod(shape[1:]))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


class Uniform(Protocol):
    """The one thing asked of a random generator; `numpy.random.Generator` has it."""

    def random(self, size: tuple[int, ...], dtype: type) -> np.ndarray:
        """Uniform numbers in [0, 1)."""


class RowStream:
    """Random numbers for rows ``first_row…`` of a batch, without drawing those of the other rows.

    Row r gets the same numbers whichever process asks, because each row owns a fixed stretch of a
    counter-based generator (Philox; Salmon et al. 2011, SC'11).
    """

    _STEP = 8  # float32 numbers per Philox counter step

    def __init__(self, key: np.ndarray, first_row: int) -> None:
        """Stream for a Philox key (uint64 [2]), see `stream_key`, from a row of the batch on."""
        self._key, self._first_row, self._calls = key, first_row, 0

    def random(self, size: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """Uniform numbers ``size`` = (rows, ...) in [0, 1)."""
        rows, per_row = size[0], math.prod(size[1:])
        blocks = -(-per_row // self._STEP)
        # Counter words from the lowest: position in the call's stream, …, number of the call.
        counter = np.array([self._first_row * blocks, 0, 0, self._calls], np.uint64)
        self._calls += 1
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        drawn = generator.random((rows, blocks * self._STEP), np.float32)
        return drawn[:, :per_row].reshape(size).astype(dtype, copy=False)


def stream_key(seed: tuple[int, ...]) -> np.ndarray:
    """Philox key uint64 [2] for a tuple of non-negative integers."""
    return np.random.SeedSequence(seed).generate_state(2, np.uint64)


def symmetric(rng: Uniform, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform float32 numbers in [-1, 1)."""
    return 2 * rng.random(shape, np.float32) - 1


def one_each(images: np.ndarray) -> tuple[int, ...]:
    """Shape (B, 1, ..., 1) of one number per image of a batch [B, ...]."""
    return (len(images), *[1] * (images.ndim - 1))


def normal(rng: Uniform, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 numbers by Box and Muller (1958).

    It takes a fixed number of uniform ones each, so every row can own a stretch of the stream.
    """
    per_row = math.prod(shape[1:])
    half = -(-per_row // 2)
    u = rng.random((shape[0], 2, half), np.float32)
    radius = np.sqrt(-2 * np.log(1 - u[:, 0]))
    angle = np.float32(2 * math.pi) * u[:, 1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return normal[:, :per_row].reshape(shape)
