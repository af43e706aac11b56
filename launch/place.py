"""Where a training stands: what it begins with, saves, and goes back to."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from launch import mesh as mesh_lib
from launch.checkpoint import Checkpoints
from launch.guard import Counts, Guarded, no_counts


@dataclasses.dataclass
class Place:
    """Everything that the rest of a training depends on, but for its settings and its key.

    Attributes:
      step: updates done.
      state: trainer's state and guard's counts, on the devices.
      logged: dropped updates that metrics.jsonl names already.
      rollbacks: how often the training went back to a checkpoint.
      note: why it stands here, for metrics.jsonl, where it went back.
    """

    step: int
    state: Guarded
    logged: int = 0
    rollbacks: int = 0
    note: dict[str, Any] = dataclasses.field(default_factory=dict)


def first(state: Any, mesh: Mesh) -> Place:
    """The place before the first step."""
    return Place(0, Guarded(state, jax.device_put(no_counts(), mesh_lib.replicated(mesh))))


def save(saved: Checkpoints, place: Place, loader: Any) -> None:
    """Starts to save a place; the loader's position belongs to it."""
    counts = jax.tree.map(lambda x: np.asarray(x).tolist(), vars(place.state.counts))
    run = {
        "loader": loader.get_state(),
        "guard": counts,
        "logged": place.logged,
        "rollbacks": place.rollbacks,
    }
    saved.save(place.step, place.state.inner, run)


def restore(
    saved: Checkpoints, abstract: Any, mesh: Mesh, loader: Any, until: int | None = None
) -> Place | None:
    """Returns the newest place that was saved, and moves the loader there; None if there is none.

    Args:
      saved: where.
      abstract: structure, shapes and shardings of the trainer's state.
      mesh: devices.
      loader: grain iterator.
      until: later places are forgotten.
    """
    found = saved.restore(abstract, until=until)
    if found is None:
        return None
    loader.set_state(found.run["loader"])
    counts = Counts(**{k: np.array(v, np.int32) for k, v in found.run["guard"].items()})
    state = Guarded(found.state, jax.device_put(counts, mesh_lib.replicated(mesh)))
    return Place(found.step, state, found.run["logged"], found.run["rollbacks"])
