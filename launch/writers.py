"""Where the metrics of a run go: metrics.jsonl always, TensorBoard events when asked."""

import json
import os
import pathlib
from collections.abc import Mapping


class MetricWriter:
    """Writes one JSON line per logged step, and TensorBoard scalars through clu.

    Args:
      folder: of the run; made when missing.
      start: lines of later steps are dropped: a killed run may have logged past its checkpoint.
      tensorboard: whether to write events too; imports TensorFlow, which takes seconds.
    """

    def __init__(self, folder: pathlib.Path, *, start: int = 0, tensorboard: bool = False):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = [line for line in _complete_lines(path) if json.loads(line)["step"] <= start]
        path.write_text("".join(line + "\n" for line in kept))
        self._file = path.open("a")
        self._events = None
        if tensorboard:
            # TensorFlow greets on stderr, in the middle of a progress bar.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
            from clu.metric_writers import SummaryWriter

            self._events = SummaryWriter(str(folder))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends the metrics of `step`, and flushes them to the file."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        if self._events is not None:
            self._events.write_scalars(step, dict(metrics))

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _complete_lines(path: pathlib.Path) -> list[str]:
    """Lines that end in a newline: kill -9 can leave half a line behind."""
    if not path.exists():
        return []
    return path.read_text().split("\n")[:-1]
