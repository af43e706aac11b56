"""Times: of steps, in turns, and of the machine's matrix product."""

import statistics
import time
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp

_MATMUL_SIZES = {"cpu": (512, 1024, 2048, 3072), "other": (4096, 8192, 12288)}


class DisagreementError(Exception):
    """Two sides do not compute the same, so that their times say nothing."""


class Side(Protocol):
    """One of those that are compared."""

    def take(self) -> object:
        """Starts the next step."""

    def wait(self) -> None:
        """Returns when all steps are done."""


def interleaved(sides: Mapping[str, Side], repeats: int, steps: int) -> dict[str, list[float]]:
    """Milliseconds per step of each side, `repeats` of them.

    The sides take turns, so that disturbances hit all alike; each does `steps` steps in a turn,
    after one that brings caches and thread pools back to it.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            side.take()
            side.wait()
            start = time.perf_counter()
            for _ in range(steps):
                side.take()
            side.wait()
            times[name].append(1e3 * (time.perf_counter() - start) / steps)
    return times


def median(times: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each side."""
    return {name: statistics.median(values) for name, values in times.items()}


def matmul_rate(dtype: jnp.dtype, seconds: float = 1.0) -> float:
    """Floating-point operations per second of a square matrix product, the best of several sizes.

    Args:
        dtype: of the matrices.
        seconds: to spend on each size.
    """
    platform = jax.devices()[0].platform
    product = jax.jit(lambda a, b: a @ b)
    best = 0.0
    for size in _MATMUL_SIZES.get(platform, _MATMUL_SIZES["other"]):
        a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
        product(a, a).block_until_ready()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            product(a, a).block_until_ready()
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
