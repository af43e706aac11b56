"""Devices: one mesh with a `data` axis; batches are split over it and states are replicated."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from launch import guard


def make_mesh() -> Mesh:
    """Returns the mesh of all devices, with the single axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of states, keys and metrics: a full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Sharding of batches: the leading axis is divided over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes the global batch `[B, ...]` from the rows that each process holds."""
    sharding = split(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def abstract(state: Any, mesh: Mesh) -> Any:
    """Adds the replicated sharding to a pytree of shapes, as a checkpoint is restored to."""
    whole = replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state)


def described(state: Any) -> Any:
    """Shapes, types and shardings of a pytree of arrays, as a checkpoint is restored to."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def jit_step(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compiles a pure `step(state, batch, key) -> (state, metrics)` for `loop.train`.

    The compiled step is guarded (see `launch.guard`) and reuses the memory of its state.
    """
    whole, rows = replicated(mesh), split(mesh)
    return jax.jit(
        guard.guarded(step),
        in_shardings=(whole, rows, whole),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )
