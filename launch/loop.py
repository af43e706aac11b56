"""The one training loop: GAN, feature network, VRN and target models all go through it."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from data.errors import UserError
from launch import distributed, guard, place, preemption, progress
from launch import mesh as mesh_lib
from launch.checkpoint import Checkpoints
from launch.journal import Journal


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
    rules: ml_collections.ConfigDict,
    checkpoints: bool = True,
    tensorboard: bool = False,
    hook: Callable[[int, Any], None] | None = None,
    show: bool = True,
) -> Any:
    """Runs `step` until `steps`, from the newest checkpoint of `folder` if there is one.

    Args:
      step: what `mesh.jit_step` made of a pure step; it donates the state.
      state: initial state; its leaves tell the shardings of a restored one.
      loader: grain iterator of host batches; its position is part of the checkpoint.
      key: root key of the run; a checkpoint of another one is refused.
      mesh: devices.
      steps: number of updates in all, whatever a checkpoint has done of them.
      folder: gets `checkpoints/`, `metrics.jsonl`, `timing.jsonl` and TensorBoard events.
      name: shown at the progress bar.
      log_every: updates between two lines of metrics.
      checkpoint_every: updates between two checkpoints; the last state is always saved.
      rules: `config.train`.
      checkpoints: whether to save at all; a short run whose result is a number need not.
      tensorboard: write events as well.
      hook: called with `(step, state)` after every update; must not keep the state.
      show: show the progress bar and the time to the first step.

    Returns:
      The state after `steps` updates.

    Raises:
      UserError: `rules.skip_limit` updates in a row were not finite, and again after going back to
        a checkpoint; or the checkpoints are of another run, or all damaged.
      preemption.PreemptedError: SIGTERM came; the state is saved.
    """
    abstract = mesh_lib.described(state)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(preemption.watch(mesh))
        saved = None
        if checkpoints:
            saved = Checkpoints(folder / "checkpoints", key, rules.keep, rules.keep_every)
            stack.callback(saved.close)
        here = saved and place.restore(saved, abstract, mesh, loader)
        here = here or place.first(state, mesh)
        while True:
            journal = Journal(
                folder,
                name,
                here,
                steps=steps,
                log_every=log_every,
                limit=rules.skip_limit,
                tensorboard=tensorboard and here.step < steps,
                show=show and distributed.is_main(),
            )
            # After going back, the same steps see other random numbers.
            root = jax.random.fold_in(key, here.rollbacks) if here.rollbacks else key
            try:
                while here.step < steps:
                    batch = mesh_lib.put(journal.meter.take(loader), mesh)
                    here.state, seen = step(here.state, batch, root)
                    here.step += 1
                    journal.follow(here.step, seen, images=len(batch["image"]))
                    if hook is not None:
                        hook(here.step, here.state.inner)
                    stopping, last = stop.after_step(), here.step == steps
                    due = last or here.step % checkpoint_every == 0
                    if stopping or due:
                        # Being stopped must not end the patience earlier than going through would.
                        watch = journal.flush(patient=not due)
                        here.logged = watch.logged
                        # Amid dropped updates there is nothing new to save.
                        if saved and (stopping or last or not watch.counts.in_row):
                            place.save(saved, here, loader)
                    if stopping:
                        raise _stopped(name, here, saved, stop)
                return here.state.inner
            except guard.NotFiniteError as stuck:
                here = _go_back(name, stuck, here, saved, abstract, mesh, loader)
            finally:
                journal.close()


def _go_back(
    name: str,
    stuck: guard.NotFiniteError,
    here: place.Place,
    saved: Checkpoints | None,
    abstract: Any,
    mesh: Mesh,
    loader: Any,
) -> place.Place:
    """Returns the last good place that was saved, the first time; raises a UserError otherwise."""
    mend = "lower the learning rate and pass --overwrite to begin this stage again"
    if here.rollbacks:
        raise UserError(f"{name}: {stuck}, and had been before going back; {mend}") from stuck
    back = saved and place.restore(saved, abstract, mesh, loader, until=stuck.step - stuck.in_row)
    if back is None:
        raise UserError(f"{name}: {stuck}, with no checkpoint to go back to; {mend}") from stuck
    progress.say(f"{name}: {stuck}; going back to step {back.step}, once")
    back.rollbacks += 1
    back.note = {"rollback": back.rollbacks, "from": stuck.step, "because": stuck.culprit}
    return back


def _stopped(
    name: str, here: place.Place, saved: Checkpoints | None, stop: preemption.Stop
) -> preemption.PreemptedError:
    if saved is None:
        return preemption.PreemptedError(
            f"{name}: stopped by SIGTERM; it is short and not saved, the same command repeats it"
        )
    saved.wait()
    return preemption.PreemptedError(
        f"{name}: stopped by SIGTERM and saved at step {here.step}, {stop.seconds:.1f} s after the "
        "signal; the same command goes on from there"
    )
