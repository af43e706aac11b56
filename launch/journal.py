"""What a training tells of itself: lines of metrics and of timing, a progress bar, warnings."""

import collections
import pathlib
from typing import Any

import jax
from tqdm import tqdm

from launch import guard, progress
from launch.place import Place
from launch.writers import MetricWriter

# Steps that the device is given before the host waits for one: enough that the device never waits
# for the host, few enough that a slow loader shows and that a stop is prompt.
AHEAD = 2


class Journal:
    """Follows a training from a place on.

    Args:
      folder: gets `metrics.jsonl`, `timing.jsonl` and TensorBoard events.
      name: of the training.
      place: where it begins.
      steps: where it ends.
      log_every: steps between two lines.
      limit: updates dropped in a row that end the patience.
      tensorboard: write events as well.
      show: show the bar and the time to the first step.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        name: str,
        place: Place,
        *,
        steps: int,
        log_every: int,
        limit: int,
        tensorboard: bool,
        show: bool,
    ):
        self._name, self._steps, self._log_every, self._show = name, steps, log_every, show
        self._watch = guard.Watch(name, limit, place.logged)
        self._writer = MetricWriter(
            folder, start=place.step, rollbacks=place.rollbacks, tensorboard=tensorboard
        )
        if place.note:
            self._writer.write(place.step, place.note)
        self._bar = tqdm(initial=place.step, total=steps, desc=name, unit="step", disable=not show)
        self._queue: collections.deque[tuple[int, Any, int]] = collections.deque()
        self._first = True
        self.meter = progress.Meter()

    def follow(self, number: int, seen: Any, images: int) -> None:
        """Takes note of a step that the device was given.

        Waits until the device has all steps but the last `AHEAD` behind it, and logs those of them
        that are due: it never waits for the newest.

        Args:
          number: of the step.
          seen: (metrics, counts) as the step returned them.
          images: in its batch.
        """
        self._queue.append((number, seen, images))
        while len(self._queue) > (0 if self._first else AHEAD):
            self._finish(*self._queue.popleft())

    def flush(self, patient: bool = False) -> guard.Watch:
        """Waits for all steps; returns the guard's watch as it stands then.

        Args:
          patient: whether only logged steps may end the patience, not the last step as such.
        """
        last = self._queue[-1] if self._queue else None
        while self._queue:
            self._finish(*self._queue.popleft())
        if last is not None:
            self._watch.read(last[0], last[1], patient)
        return self._watch

    def close(self) -> None:
        """Closes bar and files."""
        self._bar.close()
        self._writer.close()

    def _finish(self, number: int, seen: Any, images: int) -> None:
        jax.block_until_ready(seen)
        self.meter.count(images)
        self._bar.update()
        if self._first:
            self._first = False
            self._started(number)
        if number % self._log_every == 0 or number == self._steps:
            metrics = self._watch.read(number, seen)
            skipped = self._watch.unlogged()
            named = {"skipped_steps": skipped} if skipped else {}
            self._writer.write(number, metrics | named)
            measured = self.meter.lap()
            self._writer.time(number, measured)
            self._bar.set_postfix(progress.postfix(metrics, measured), refresh=False)

    def _started(self, number: int) -> None:
        self.meter.lap()  # compiling is not part of the rates
        since = progress.since_program_start()
        times = {"first_step": self.meter.seconds, "first_step_since_program_start": since}
        self._writer.time(number, {k: round(v, 3) for k, v in times.items()})
        if self._show:
            progress.say(
                f"{self._name}: first step done {times['first_step']:.1f} s after the training "
                f"began, {since:.1f} s after the program did"
            )
