"""Work shared by processes, in memory that does not grow with it."""

import collections
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from data.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

# A process takes about a second to start: short work is over by then.
ALONE_SECONDS = 2.0
_AHEAD = 4  # tasks handed out at a time, per process
_WATCH_SECONDS = 0.2


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered(
    do: Callable[[Task], Result], tasks: Iterable[Task], processes: int = 0
) -> Iterator[Result]:
    """Yields ``do(task)`` of every task, in their order; an exception of a task is raised here.

    The first tasks are done by this process itself; where that takes long, ``processes`` others do
    the rest. They end when this one does, however it ends.

    Args:
        do: a function of a module.
        tasks: taken a few ahead of the results.
        processes: how many; 0 = one per core, 1 = this one alone.

    Raises:
        UserError: one of the processes was killed.
    """
    processes, tasks = processes or cores(), iter(tasks)
    began = time.monotonic()
    for task in tasks:
        yield do(task)
        if processes > 1 and time.monotonic() - began >= ALONE_SECONDS:
            yield from _shared(do, tasks, processes)


def _shared(
    do: Callable[[Task], Result], tasks: Iterator[Task], processes: int
) -> Iterator[Result]:
    first = list(itertools.islice(tasks, processes * _AHEAD))
    if not first:
        return
    # Unlike the standard library's, its processes do not import the program that starts them (and
    # with it JAX), and it notices when one of them is killed.
    import loky

    pool = loky.ProcessPoolExecutor(
        min(processes, len(first)), initializer=_end_with, initargs=(os.getpid(),)
    )
    try:
        pending = collections.deque(pool.submit(do, task) for task in first)
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(do, task) for task in itertools.islice(tasks, 1))
            yield result
    except loky.process_executor.TerminatedWorkerError:
        raise UserError(
            "a process that read images was killed, perhaps for want of memory; the same command "
            "goes on, with --config.data.workers=1 in less memory."
        ) from None
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _end_with(parent: int) -> None:
    """Has this process end soon after its parent, which may be killed without a word."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
