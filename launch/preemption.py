"""SIGTERM: the training finishes its step, saves, and the same command goes on from there.

With several processes, one that got the signal tells the others, and all stop after the same step.
"""

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

EXIT_CODE = 128 + signal.SIGTERM  # 143, as a shell reports a program that SIGTERM ended
# Steps between two questions to the other processes; each is answered by the next one, so that
# nobody waits for the answer.
EVERY = 8


class PreemptedError(Exception):
    """SIGTERM came during a training; the message says where the same command will go on."""


class Stop:
    """Whether SIGTERM has come, to this process or to another of the run."""

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self._came: float | None = None  # when the signal came
        self._steps = 0
        self._asked: jax.Array | None = None

    def notice(self, *_) -> None:
        """Handles the signal."""
        if self._came is None:
            self._came = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the signal; 0 in a process that learnt of it from another."""
        return 0.0 if self._came is None else time.monotonic() - self._came

    def after_step(self) -> bool:
        """Whether to stop now; to be called after every step, in all processes alike."""
        if jax.process_count() == 1:
            return self._came is not None
        self._steps += 1
        if self._steps % EVERY:
            return False
        answer = self._asked is not None and bool(self._asked)
        self._asked = self._ask()
        return answer

    def after_all(self) -> bool:
        """Whether it came after the last answer; to be called at the end, in all processes."""
        return self._came is not None if jax.process_count() == 1 else bool(self._ask())

    def _ask(self) -> jax.Array:
        rows = np.full(jax.local_device_count(), self._came is not None)
        sharding = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
        return _any(self._mesh)(jax.make_array_from_process_local_data(sharding, rows))


@functools.cache
def _any(mesh: Mesh):
    return jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec()))


@contextlib.contextmanager
def watch(mesh: Mesh) -> Iterator[Stop]:
    """Takes SIGTERM over from the default, which is to end at once, until the block is left.

    Raises:
      PreemptedError: the block is done, but a signal came that it has not answered.
    """
    stop = Stop(mesh)
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python lets only the main thread handle signals
        return
    before = signal.signal(signal.SIGTERM, stop.notice)
    try:
        yield stop
    finally:
        # None: a handler that was not set from Python and cannot be put back from it.
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
    if stop.after_all():
        raise PreemptedError(
            "stopped by SIGTERM at the end of a training; the same command goes on from there"
        )
