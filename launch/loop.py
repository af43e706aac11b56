"""The one training loop: GAN, feature network, VRN and target models all go through it."""

import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from data.errors import UserError
from launch import distributed
from launch import mesh as mesh_lib
from launch.checkpoint import Checkpoints
from launch.writers import MetricWriter


def train(
    *,
    step: Callable[..., Any],
    state: Any,
    loader: Any,
    key: jax.Array,
    mesh: Mesh,
    steps: int,
    folder: pathlib.Path,
    name: str,
    log_every: int,
    checkpoint_every: int,
    checkpoints: bool = True,
    tensorboard: bool = False,
    hook: Callable[[int, Any], None] | None = None,
    progress: bool = True,
) -> Any:
    """Runs `step` until `steps`, from the newest checkpoint of `folder` if there is one.

    Args:
      step: compiled `(state, batch, key) -> (state, metrics)` that donates the state.
      state: initial state; its leaves tell the shardings of a restored one.
      loader: grain iterator of host batches; its position is part of the checkpoint.
      key: root key of the run.
      mesh: devices.
      steps: number of updates in all, whatever a checkpoint has done of them.
      folder: gets `checkpoints/`, `metrics.jsonl` and TensorBoard events.
      name: shown at the progress bar.
      log_every: updates between two lines of metrics.
      checkpoint_every: updates between two checkpoints; the last state is always saved.
      checkpoints: whether to save at all; a short run whose result is a number need not.
      tensorboard: write events as well.
      hook: called with `(step, state)` after every update; must not keep the state.
      progress: show the bar.

    Returns:
      The state after `steps` updates.

    Raises:
      UserError: a logged metric is not finite. The checkpoints stay as they were.
    """
    saved = Checkpoints(folder / "checkpoints") if checkpoints else None
    start, state = saved.restore(state, loader) if saved else (0, state)
    main = distributed.is_main()
    events = tensorboard and start < steps
    writer = MetricWriter(folder, start=start, tensorboard=events) if main else None
    show = progress and main
    bar = tqdm(initial=start, total=steps, desc=name, unit="step", disable=not show)
    late: tuple[int, Mapping[str, jax.Array]] | None = None
    try:
        for number in range(start + 1, steps + 1):
            state, metrics = step(state, mesh_lib.put(next(loader), mesh), key)
            if late is not None:
                # Read one step late: the device already works on the next one.
                bar.set_postfix(_log(writer, *late, name), refresh=False)
                late = None
            if number % log_every == 0 or number == steps:
                late = number, metrics
            if hook is not None:
                hook(number, state)
            if saved and (number % checkpoint_every == 0 or number == steps):
                if late is not None:  # nothing non-finite may become the newest checkpoint
                    _log(writer, *late, name)
                    late = None
                saved.save(number, state, loader)
            bar.update()
        if late is not None:
            _log(writer, *late, name)
    finally:
        bar.close()
        if writer is not None:
            writer.close()
        if saved:
            saved.close()
    return state


def _log(
    writer: MetricWriter | None, step: int, metrics: Mapping[str, Any], name: str
) -> dict[str, str]:
    values = {k: float(v) for k, v in jax.device_get(dict(metrics)).items()}
    bad = [k for k, v in values.items() if not math.isfinite(v)]
    if bad:
        raise UserError(
            f"{name}: {bad[0]} is {values[bad[0]]} at step {step}; lower the learning rate "
            "and pass --overwrite to begin this stage again"
        )
    if writer is not None:
        writer.write(step, values)
    return {k: f"{v:.3g}" for k, v in list(values.items())[:3]}
