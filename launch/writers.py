"""Where the numbers of a run go: metrics.jsonl and timing.jsonl always, TensorBoard when asked.

What depends on the machine and its load stands in timing.jsonl only, so that metrics.jsonl is the
same to the last byte however often a run was stopped.
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from data import tables
from launch import distributed


class MetricWriter:
    """Writes one JSON line per logged step, and TensorBoard scalars; the main process only.

    Args:
      folder: of the run; made when missing.
      start: lines of later steps are dropped: a killed run may have logged past its checkpoint.
      rollbacks: how often the run was rolled back when it was at `start`; lines that tell of later
        rollbacks are dropped too.
      tensorboard: whether to write events too; imports TensorFlow, which takes seconds.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        start: int = 0,
        rollbacks: int = 0,
        tensorboard: bool = False,
    ):
        folder.mkdir(parents=True, exist_ok=True)

        def past(line: Mapping[str, Any]) -> bool:
            return line["step"] <= start and line.get("rollback", 0) <= rollbacks

        self._metrics = _reopen(folder / "metrics.jsonl", past)
        self._timing = _reopen(folder / "timing.jsonl", past)
        self._events = None
        if tensorboard and distributed.is_main():
            # TensorFlow greets on stderr, in the middle of a progress bar.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
            from clu.metric_writers import SummaryWriter

            self._events = SummaryWriter(str(folder))

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends the metrics of `step`, None where not finite, and flushes them to the file."""
        _append(self._metrics, step, metrics)
        self._scalars(step, metrics, "")

    def time(self, step: int, timing: Mapping[str, float]) -> None:
        """Appends what depends on the machine: rates, waiting, seconds to the first step."""
        _append(self._timing, step, timing)
        self._scalars(step, timing, "timing/")

    def close(self) -> None:
        """Closes the files."""
        self._metrics.close()
        self._timing.close()
        if self._events is not None:
            self._events.close()

    def _scalars(self, step: int, values: Mapping[str, Any], prefix: str) -> None:
        if self._events is not None:
            numbers = {prefix + k: v for k, v in values.items() if isinstance(v, int | float)}
            self._events.write_scalars(step, numbers)


def _append(file: TextIO, step: int, values: Mapping[str, Any]) -> None:
    file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
    file.flush()


def _reopen(path: pathlib.Path, past: Callable[[Mapping[str, Any]], bool]) -> TextIO:
    """Opens a file of JSON lines to append to those that are past."""
    if not distributed.is_main():
        return open(os.devnull, "w")
    content = path.read_bytes() if path.exists() else b""
    kept = b"".join(line for line, values in _readable(content) if past(values))
    if kept != content:
        with tables.atomic_file(path) as aside:
            aside.write_bytes(kept)
    return path.open("a")


def _readable(content: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Whole lines with their values, up to the first that is none of ours."""
    # The last piece is empty, or half a line that kill -9 left behind.
    for line in content.split(b"\n")[:-1]:
        try:
            values = json.loads(line)
        except ValueError:  # JSON and UTF-8 errors alike
            return
        if not isinstance(values, dict) or not isinstance(values.get("step"), int):
            return
        yield line + b"\n", values
