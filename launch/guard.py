"""A guard around every step: an update that is not finite is dropped, counted and reported.

The device decides and counts; the host reads the counts together with the logged metrics, so that
no step waits for the guard. A state that began finite stays finite, so every checkpoint is.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from launch.progress import say

RECENT = 16  # dropped updates whose numbers are remembered until the host reads them
_METRICS = 31  # bits of an int32 that tell them apart


class Counts(flax.struct.PyTreeNode):
    """What the guard has seen.

    Attributes:
      skipped: [] int32, updates dropped in all.
      in_row: [] int32, updates dropped since the last good one.
      recent: [RECENT] int32, the i-th dropped update has its number at i modulo RECENT.
      blame: [] int32, of the latest of them: bit i for the i-th metric in alphabetical order, no
        bit where the metrics are finite and the new state is not.
    """

    skipped: jax.Array
    in_row: jax.Array
    recent: jax.Array
    blame: jax.Array


class Guarded(flax.struct.PyTreeNode):
    """A trainer's state, which has a field `step`, and the guard's counts."""

    inner: Any
    counts: Counts


def no_counts() -> Counts:
    """Counts before the first step, on the host."""
    zero = np.zeros((), np.int32)
    return Counts(skipped=zero, in_row=zero, recent=np.zeros(RECENT, np.int32), blame=zero)


def guarded(step: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a pure `step(state, batch, key) -> (state, metrics)`; to be jitted.

    Where a metric or the new state is not finite, the state stays as it was except for its number,
    so that the next step sees other random numbers and other data.

    Returns:
      `step(guarded state, batch, key) -> (guarded state, (metrics, counts))`.
    """

    def guarded_step(
        state: Guarded, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[Guarded, tuple[dict[str, jax.Array], Counts]]:
        new, metrics = step(state.inner, batch, key)
        finite = [jnp.isfinite(metrics[name]).all() for name in sorted(metrics)]
        good = _all(finite) & _all(_finite(leaf) for leaf in jax.tree.leaves(new))
        kept = jax.tree.map(functools.partial(jnp.where, good), new, state.inner)
        counts = _count(state.counts, good, new.step, finite)
        return Guarded(kept.replace(step=new.step), counts), (metrics, counts)

    return guarded_step


def _finite(leaf: jax.Array) -> jax.Array:
    inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
    return jnp.isfinite(leaf).all() if inexact else jnp.array(True)


def _all(values: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.and_, values)


def _count(old: Counts, good: jax.Array, number: jax.Array, finite: list[jax.Array]) -> Counts:
    bad = jnp.where(good, 0, 1)
    place = old.skipped % RECENT
    blame = sum(jnp.where(ok, 0, 1 << bit) for bit, ok in enumerate(finite[:_METRICS]))
    return Counts(
        skipped=old.skipped + bad,
        in_row=jnp.where(good, 0, old.in_row + 1),
        recent=jnp.where(good, old.recent, old.recent.at[place].set(number)),
        blame=jnp.where(good, old.blame, blame),
    )


class NotFiniteError(Exception):
    """Updates were dropped `in_row` times in a row, up to step `step`."""

    def __init__(self, step: int, in_row: int, culprit: str):
        super().__init__(f"{culprit} for {in_row} steps up to step {step}")
        self.step, self.in_row, self.culprit = step, in_row, culprit


class Watch:
    """Reads what steps return, on the host.

    Args:
      name: of the training, for messages.
      limit: updates dropped in a row that end the patience.
      logged: dropped updates that are in metrics.jsonl already.
    """

    def __init__(self, name: str, limit: int, logged: int = 0):
        self.counts = no_counts()
        self.logged = logged
        self._said = logged
        self._name, self._limit = name, limit

    def read(
        self, step: int, seen: tuple[Mapping[str, Any], Counts], patient: bool = False
    ) -> dict[str, Any]:
        """Reads the metrics and counts of one step; says on stderr what was dropped.

        Args:
          step: its number.
          seen: metrics and counts as it returned them.
          patient: whatever the limit is, leave it to a later call.

        Returns:
          The metrics as floats, None where not finite, with 'skipped', the number of all updates
          dropped so far.

        Raises:
          NotFiniteError: too many in a row.
        """
        metrics, self.counts = jax.device_get(seen)
        skipped, in_row = int(self.counts.skipped), int(self.counts.in_row)
        if skipped > self._said:
            say(
                f"{self._name}: {self._culprit(metrics)}; dropped the update of "
                f"{_steps(self._numbers(self._said), skipped - self._said)}"
            )
            self._said = skipped
        if in_row >= self._limit and not patient:
            raise NotFiniteError(step, in_row, self._culprit(metrics))
        values = {name: float(value) for name, value in sorted(metrics.items())}
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        return finite | {"skipped": skipped}

    def unlogged(self) -> list[int]:
        """Numbers of the dropped updates that no line of metrics has named yet; the last RECENT."""
        numbers = self._numbers(self.logged)
        self.logged = int(self.counts.skipped)
        return numbers

    def _numbers(self, known: int) -> list[int]:
        skipped = int(self.counts.skipped)
        first = max(known, skipped - RECENT)
        return [int(self.counts.recent[i % RECENT]) for i in range(first, skipped)]

    def _culprit(self, metrics: Mapping[str, Any]) -> str:
        blame = int(self.counts.blame)
        bad = [name for bit, name in enumerate(sorted(metrics)) if blame >> bit & 1]
        return f"{', '.join(bad) or 'the new state'} not finite"


def _steps(numbers: list[int], count: int) -> str:
    named = ", ".join(map(str, numbers))
    more = f" and {count - len(numbers)} before" if count > len(numbers) else ""
    return f"step{'s' if count > 1 else ''} {named}{more}"
