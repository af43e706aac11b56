"""Any number of images through the devices of a process, in memory that does not grow with them.

Work is divided into shares. Every process takes its own and runs them on its own devices, so no
process ever waits for another between `jax` calls, and a share gives the same result wherever and
in whatever order it is done.
"""

import collections
import contextlib
import ctypes
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from launch import distributed, models

# Images of a share: what a killed run loses at most, and the unit that processes divide.
SHARE = 1 << 14
# Batches given to the devices before the first of them is fetched.
_AHEAD = 2


def shares(total: int, at_least: int = 1) -> list[tuple[int, int]]:
    """Divides `total` rows into even ranges [start, stop) of at most `SHARE` rows.

    Args:
      total: rows.
      at_least: ranges, if there are rows enough; never fewer than there are processes.
    """
    count = min(max(at_least, jax.process_count(), -(-total // SHARE)), total)
    bounds = [total * index // count for index in range(count + 1)]
    return list(itertools.pairwise(bounds))


def mine(count: int) -> range:
    """Numbers of the shares, out of `count`, that are this process's to do."""
    return range(jax.process_index(), count, jax.process_count())


def give_back_memory() -> None:
    """Hands what malloc keeps of freed memory back to the system; nothing where it is not glibc's.

    Threads allocate in regions of their own, whose gaps would add up share by share.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def behind() -> Iterator[Callable[..., None]]:
    """Yields `do(finish, *args)`, which finishes a share on a thread while the next one is made.

    One is finished at a time: `do` waits for the one before and raises what went wrong with it, and
    so does a clean exit with the last. The thread has ended on every exit.
    """
    with futures.ThreadPoolExecutor(1, "finishing") as thread:
        running: list[futures.Future] = []

        def wait() -> None:
            while running:
                running.pop().result()

        def do(finish: Callable[..., Any], *args: Any) -> None:
            wait()
            running.append(thread.submit(finish, *args))

        yield do
        wait()


class Forward:
    """A network's forward pass on all devices of this process, always at one batch size.

    Every device computes its own rows by itself, so what an image becomes depends on the rows per
    device at most. Parameters may come from any sharding.

    Args:
      fn: `fn(params, arrays)` to a pytree of arrays `[b, ...]`, from a tuple of arrays `[b, ...]`.
      params: first argument.
      batch: rows per call over all devices, rounded up to a multiple of them; the results are
        `batch` and `rows_per_device`.
      inputs: makes the arrays that `fn` takes of those that this is called with, on the host.
    """

    def __init__(
        self,
        fn: Callable[[Any, Any], Any],
        params: Any,
        batch: int,
        inputs: Callable[..., tuple[np.ndarray, ...]] = lambda *arrays: arrays,
    ):
        devices = jax.local_devices()
        mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
        whole, rows = PartitionSpec(), PartitionSpec("data")
        self.rows_per_device = -(-batch // len(devices))
        self.batch = self.rows_per_device * len(devices)
        self._params = jax.device_put(jax.tree.map(np.asarray, params), NamedSharding(mesh, whole))
        self._rows = NamedSharding(mesh, rows)
        self._inputs = inputs
        self._fn = jax.jit(
            jax.shard_map(fn, mesh=mesh, in_specs=(whole, rows), out_specs=rows, check_vma=False)
        )

    def dispatch(self, *arrays: np.ndarray) -> Any:
        """Starts the pass on arrays `[b, ...]`, b <= batch; returns the padded device arrays."""
        padded = tuple(models.pad(array, self.batch) for array in self._inputs(*arrays))
        result = self._fn(self._params, jax.device_put(padded, self._rows))
        for leaf in jax.tree.leaves(result):
            leaf.copy_to_host_async()
        return result

    def __call__(self, *arrays: np.ndarray) -> Any:
        """NumPy results of arrays `[N, ...]` of any length."""
        starts = range(0, len(arrays[0]), self.batch)
        parts = [tuple(array[i : i + self.batch] for array in arrays) for i in starts]
        done = [result for _, result in self.ahead((None, part) for part in parts)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *done)

    def ahead(self, jobs: Iterable[tuple[Any, tuple[np.ndarray, ...]]]) -> Iterator[Any]:
        """Yields (tag, NumPy result `[b, ...]`) of jobs (tag, arrays `[b, ...]`), in their order.

        The devices have work for two more batches while the caller deals with a result and while
        the next job's arrays are read.
        """
        flying: collections.deque[tuple[Any, int, Any]] = collections.deque()

        def fetch() -> tuple[Any, Any]:
            tag, rows, result = flying.popleft()
            return tag, jax.tree.map(lambda leaf: np.asarray(leaf)[:rows], result)

        for tag, arrays in jobs:
            flying.append((tag, len(arrays[0]), self.dispatch(*arrays)))
            if len(flying) > _AHEAD:
                yield fetch()
        while flying:
            yield fetch()


def progress(name: str, ranges: Sequence[tuple[int, int]], todo: Sequence[int]) -> tqdm:
    """A bar of images done, images per second and time left, shown by the main process.

    It counts the shares `todo` of this process only.
    """
    total = sum(stop - start for start, stop in (ranges[index] for index in todo))
    hidden = {} if distributed.is_main() else {"disable": True}
    return tqdm(total=total, desc=name, unit="image", unit_scale=True, **hidden)
