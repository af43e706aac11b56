"""Devices: batches are split over the axis `data` of one mesh, and states are replicated."""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from data.errors import UserError
from launch import guard
from nn.gradient import AXIS, Gradient


def make_mesh(model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh with the axes `data` and `model`.

    Args:
      model: devices that hold one copy of the networks together. Present networks fit on one
        device and are copied over this axis, so more than 1 brings no speed.
      devices: default all of all processes.

    Raises:
      UserError: the devices cannot be grouped so.
    """
    devices = jax.devices() if devices is None else devices
    if model < 1 or len(devices) % model:
        raise UserError(
            f"--config.model_devices={model}: {len(devices)} devices cannot be grouped so; "
            "give a divisor of their number"
        )
    held = collections.Counter(device.process_index for device in devices)
    if len(held) > 1 and any(count % model for count in held.values()):
        # Each process gives rows of its own, and copies over `model` must be given the same.
        raise UserError(
            f"--config.model_devices={model}: a process holds {min(held.values())} devices, which "
            "cannot be grouped so; give a divisor of their number"
        )
    shape = (len(devices) // model, model)
    return jax.make_mesh(shape, (AXIS, "model"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def gradient(settings: ml_collections.ConfigDict, mesh: Mesh, section: str) -> Gradient:
    """How a stage takes gradients, from `batch`, `accumulate` and `remat` of its settings.

    Args:
      settings: of the stage.
      mesh: devices.
      section: name of the settings, for the message.

    Raises:
      UserError: the batch cannot be divided equally.
    """
    made = Gradient(settings.accumulate, settings.remat, mesh)
    if settings.batch % made.shares:
        raise UserError(
            f"--config.{section}.batch={settings.batch} cannot be divided by {mesh.shape[AXIS]} "
            f"devices x {settings.accumulate} micro-batches; make it a multiple of {made.shares}"
        )
    return made


def arranged(config: ml_collections.ConfigDict, section: str) -> tuple[Mesh, Gradient]:
    """The devices, and how the stage with these settings takes gradients on them.

    Raises:
      UserError: the devices cannot be grouped, or the batch not be divided over them.
    """
    mesh = make_mesh(config.model_devices)
    return mesh, gradient(config[section], mesh, section)


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of states, keys and metrics: a full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Sharding of batches: the leading axis is divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes the global batch `[B, ...]` from the rows that each process holds."""
    sharding = split(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def local(tree: Any) -> Any:
    """Replicated arrays as arrays of one device of this process, to be used by it alone."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


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
