"""Several processes, one run: how they find each other, who writes, and where they wait.

    python -m launch.train_gan … --coordinator=HOST:PORT --num_processes=2 --process_id=0   # and =1
    srun python -m launch.train_gan … --distributed=auto

Process 0 writes what there is once per run. All see one --workdir, on a file system they share.
"""

import contextlib
import functools
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn, ParamSpec, TypeVar

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from data.errors import UserError
from launch import lifeline

MODE = flags.DEFINE_enum(
    "distributed", "none", ["none", "auto"],
    "auto: one run in all processes of this SLURM step, Open MPI job, Kubernetes indexed job or "
    "Cloud TPU pod. On plain hosts give --coordinator, --num_processes and --process_id instead.",
)  # fmt: skip
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, a port that is free there."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many take part.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.", lower_bound=0)
INIT_TIMEOUT = flags.DEFINE_integer(
    "init_timeout", 300, "Seconds to wait for all processes to come.", lower_bound=1
)
PEER_TIMEOUT = flags.DEFINE_integer(
    "peer_timeout", 60, "Seconds within which a process that gives no sign of life is named and "
    "the others end; one that is killed is noticed at once.", lower_bound=4,
)  # fmt: skip
FLAGS = (
    "distributed",
    "coordinator",
    "num_processes",
    "process_id",
    "init_timeout",
    "peer_timeout",
)

# "Try again" in sysexits.h: a peer was lost or late, and the same command goes on where it was.
PEER_LOST = 75
_GRACE = 3.0  # seconds in which news of a dead peer may overtake the error that its death caused

P, T = ParamSpec("P"), TypeVar("T")
_alone = False


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Makes this process one of a run for the time of the block, if flags say so.

    Enter it before anything asks JAX for devices. A process that leaves with an error takes the
    others with it, who name it.

    Raises:
      UserError: flags are missing or wrong; the message names them.
      SystemExit: a process did not come in time; a line on stderr names it.
    """
    found = _find()
    if found is None or found[1] == 1:
        yield
        return
    address, count, index = found
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        line = lifeline.call(
            address, count, index, INIT_TIMEOUT.value, PEER_TIMEOUT.value, lost=_end
        )
    except lifeline.AbsentError as absent:
        print(f"error: {absent}", file=sys.stderr)
        raise SystemExit(PEER_LOST) from None
    jax.distributed.initialize(
        address,
        count,
        index,
        initialization_timeout=INIT_TIMEOUT.value,
        # JAX sees a hung process too, but aborts without a name, and after half of this already.
        heartbeat_timeout_seconds=2 * PEER_TIMEOUT.value,
        # Process 0 may write tables and pages for long after the others are done.
        shutdown_timeout_seconds=24 * 3600,
    )
    try:
        yield
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        line.leave(f"process {index} ended with exit code {stop.code}; see its log")
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException as error:
        time.sleep(_GRACE)  # a dead peer is named by the lifeline, which then ends this process
        traceback.print_exc()
        sys.stderr.flush()
        line.leave(f"process {index} failed with {type(error).__name__}; see its log")
        os._exit(1)
    jax.distributed.shutdown()
    line.leave()


def is_main() -> bool:
    """Whether this process writes what there is once per run (stage.json, tables, pictures)."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has come to the barrier of this name; nothing in one process."""
    if jax.process_count() > 1 and not _alone:
        multihost_utils.sync_global_devices(name)


def on_main(call: Callable[[], T]) -> T:
    """Calls on process 0 while the others wait; all return its result or raise its exception.

    What is called must not wait for other processes; `on_main` and `barrier` in it do not.

    Args:
      call: its result can be pickled. Of an exception that cannot, the others get a RuntimeError
        with its name and message.
    """
    global _alone
    if jax.process_count() == 1 or _alone:
        return call()
    barrier("on_main")  # whoever still reads what the call will change
    raised: Exception | None = None
    message = b""
    if is_main():
        _alone = True
        try:
            message = pickle.dumps((True, call()))
        except Exception as error:
            raised, message = error, _told(error)
        finally:
            _alone = False
    returned, value = pickle.loads(_broadcast(message))
    if raised is not None:
        raise raised  # itself, with its traceback
    if not returned:
        raise value
    return value


def _told(error: Exception) -> bytes:
    """What the other processes are told of an exception."""
    try:
        message = pickle.dumps((False, error))
        pickle.loads(message)  # fails where an exception takes other arguments than it keeps
        return message
    except Exception:
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def main_only(call: Callable[P, T]) -> Callable[P, T]:
    """Decorates a program for one process: see `on_main`."""

    @functools.wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        return on_main(functools.partial(call, *args, **kwargs))

    return wrapped


def _find() -> tuple[str, int, int] | None:
    """Address of process 0, number of processes and which one this is; None for a run of one."""
    given = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if MODE.value == "none":
        names = ("coordinator", "num_processes", "process_id")
        missing = [name for name, value in zip(names, given, strict=True) if value is None]
        if len(missing) == len(names):
            return None
        if missing:
            raise UserError(f"--{missing[0]} is missing; plain hosts need --{', --'.join(names)}")
    else:
        # JAX finds these itself, but only inside its own initialisation.
        from jax._src.clusters import ClusterEnv

        *given, _ = ClusterEnv.auto_detect_unset_distributed_params(
            *given, None, None, INIT_TIMEOUT.value
        )
        if None in given:
            raise UserError(
                "--distributed=auto: this is no SLURM step, Open MPI job, Kubernetes indexed job "
                "or Cloud TPU pod; give --coordinator, --num_processes and --process_id"
            )
    address, count, index = given
    if index >= count:
        raise UserError(f"--process_id={index} is too large; ids go from 0 to {count - 1}")
    if not address.rpartition(":")[2].isdigit():
        raise UserError(f"--coordinator={address} has no port; write for example {address}:9000")
    return address, count, index


def _broadcast(message: bytes) -> bytes:
    """The message of process 0, in every process."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    padded = np.zeros(size, np.uint8)
    if is_main():
        padded[:] = np.frombuffer(message, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes()


def _end(news: str) -> NoReturn:
    """Ends this process, which may hang in a collective that nothing else gets it out of."""
    print(f"error: {news}", file=sys.stderr, flush=True)
    os._exit(PEER_LOST)
