"""What a training tells on the screen, and where its wall time goes."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm

from launch import distributed

_IMPORTED = time.monotonic()


def say(text: str) -> None:
    """Prints one line to stderr, above the progress bar if there is one; once per run."""
    if distributed.is_main():
        tqdm.write(text, file=sys.stderr)


def since_program_start() -> float:
    """Seconds since this process was started; since the import of this file where unknown."""
    try:
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):  # no Linux
        return time.monotonic() - _IMPORTED


class Meter:
    """Measures rates, and the share of time in which a training waits for its loader."""

    def __init__(self) -> None:
        self._began = self._lap = time.perf_counter()
        self._waited = 0.0
        self._steps = self._images = 0

    @property
    def seconds(self) -> float:
        """Seconds since the training began."""
        return time.perf_counter() - self._began

    def take(self, loader: Iterator[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Returns the next batch; the time that takes is the loader's."""
        began = time.perf_counter()
        batch = next(loader)
        self._waited += time.perf_counter() - began
        return batch

    def count(self, images: int) -> None:
        """Counts a finished step of so many images."""
        self._steps += 1
        self._images += images

    def lap(self) -> dict[str, float]:
        """Returns what was measured since the last lap, and begins the next."""
        now = time.perf_counter()
        seconds = max(now - self._lap, 1e-9)
        measured = {
            "seconds": round(now - self._began, 3),
            "steps_per_second": round(self._steps / seconds, 3),
            "images_per_second": round(self._images / seconds, 1),
            "loader_wait": round(self._waited / seconds, 5),
        }
        self._lap, self._waited, self._steps, self._images = now, 0.0, 0, 0
        return measured


def postfix(metrics: Mapping[str, float | None], measured: Mapping[str, float]) -> dict[str, str]:
    """What stands at the right of the bar: rate, wait, and the first three metrics."""
    shown = {k: "-" if v is None else f"{v:.3g}" for k, v in list(metrics.items())[:3]}
    return {
        "img/s": f"{measured['images_per_second']:.0f}",
        "loader wait": f"{measured['loader_wait']:.0%}",
    } | shown
