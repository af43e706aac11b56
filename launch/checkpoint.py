"""Checkpoints: everything a run needs to go on, written aside, asynchronously, by orbax.

A checkpoint holds the state (item `state`) and, as JSON (item `run`), the loader's position, the
guard's counts and the run's key. Its files are sealed with digests before the folder gets its name.
"""

import contextlib
import logging
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from data.errors import UserError
from launch import distributed, seals
from launch.progress import say

logging.getLogger("orbax").setLevel(logging.ERROR)
# Orbax speaks through absl at every save; a progress bar does not survive that.
logging.getLogger("absl").setLevel(logging.ERROR)


class Restored(NamedTuple):
    """What a checkpoint held: its step, the state, and what `save` was given as `run`."""

    step: int
    state: Any
    run: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training run.

    Args:
      folder: created when missing.
      key: the run's key; a checkpoint of another one is refused.
      keep: how many of the newest are kept.
      keep_every: those of steps that this number divides are kept too; 0 for none.
    """

    def __init__(self, folder: pathlib.Path, key: jax.Array, keep: int = 2, keep_every: int = 0):
        self.folder = folder
        self._key = _readable(key)
        kept = [policies.LatestN(keep)]
        if keep_every:
            kept.append(policies.EveryNSteps(keep_every))
        self._manager = _manager(
            folder,
            create=True,
            cleanup_tmp_directories=True,
            preservation_policy=policies.AnyPreservationPolicy(kept),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )

    def restore(self, state: Any, *, until: int | None = None) -> Restored | None:
        """Returns the newest checkpoint whose files are as they were written; None for none at all.

        Damaged ones after it are set aside, with a line that says so, and ones after `until` are
        deleted, so that their steps can be saved again.

        Args:
          state: structure, shapes and shardings, as `jax.ShapeDtypeStruct`s.
          until: the last step that may be restored.

        Raises:
          UserError: all are damaged, or the checkpoint is of another key or configuration.
        """
        self.wait()
        # Judged once, so that no process goes on from another step than the rest.
        step, dropped, damaged = distributed.on_main(lambda: self._judge(until))
        if step is None:
            return None
        for one in dropped:
            self._manager.delete(one)
        self._set_aside(damaged, instead=step)
        sound = self.folder / str(step)
        run = _read_run(self._manager, step)
        if run["key"] != self._key:
            raise UserError(
                f"checkpoint {sound} is of another seed or stage (key {run['key']}, not "
                f"{self._key}); give the seed it was made with, or pass --overwrite to begin again"
            )
        return Restored(step, _read_state(self._manager, sound, run, state), run)

    def save(self, step: int, state: Any, run: Mapping[str, Any]) -> None:
        """Starts to save; returns before the files are complete.

        Args:
          step: number of updates done.
          state: pytree of arrays; may be donated as soon as this returns.
          run: what else is needed to go on, as JSON.
        """
        run = {**run, "key": self._key, "arrays": _arrays(state)}
        self._manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run)),
        )

    def wait(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits likewise, and ends the writing threads."""
        self.wait()
        self._manager.close()

    def _seal(self) -> None:
        # Called by orbax's thread when all files are written and before the folder gets its name.
        for folder in self.folder.glob("*.orbax-checkpoint-tmp*"):
            seals.seal(folder)

    def _judge(self, until: int | None) -> tuple[int | None, list[int], dict[int, str]]:
        """The step to restore, later ones past `until`, and others with what is wrong with them."""
        damaged: dict[int, str] = {}
        dropped: list[int] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            if until is not None and step > until:
                dropped.append(step)
            elif (damage := seals.damage(self.folder / str(step))) is None:
                return step, dropped, damaged
            else:
                damaged[step] = damage
        if damaged:
            step, damage = next(iter(damaged.items()))
            raise UserError(
                f"checkpoint {self.folder / str(step)} cannot be read ({damage}) and there is "
                f"no other; delete {self.folder} to begin again"
            )
        return None, dropped, damaged

    def _set_aside(self, damaged: Mapping[int, str], instead: int) -> None:
        if not damaged:
            return
        for step, damage in damaged.items():
            folder = self.folder / str(step)
            aside = self.folder.with_name(f"{self.folder.name}.damaged") / str(step)
            say(
                f"checkpoint {folder} cannot be read ({damage}); moved it to {aside}, "
                f"going on from step {instead}"
            )
            if distributed.is_main():
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                folder.rename(aside)
        distributed.barrier("damaged checkpoints set aside")
        self._manager.reload()


def open_last(run: pathlib.Path, state: Any, step: int | None = None) -> Any:
    """Returns the state in the last checkpoint of a finished training in folder `run`.

    There is no falling back: an earlier checkpoint would be another network than was asked for.

    Args:
      run: folder that holds `checkpoints/`.
      state: structure, shapes and shardings, as `jax.ShapeDtypeStruct`s.
      step: of the checkpoint, where another than the last is wanted.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    folder = run / "checkpoints"
    which = "checkpoint" if step is None else f"checkpoint of step {step}"
    missing = UserError(f"{run} holds no {which}; delete {run} to train again")
    if not folder.exists():
        raise missing
    with contextlib.closing(_manager(folder, create=False)) as manager:
        if step is None:
            step = manager.latest_step()
        if step not in manager.all_steps():
            raise missing
        newest = folder / str(step)
        damage = seals.damage(newest)
        if damage is not None:
            raise UserError(
                f"checkpoint {newest} cannot be read ({damage}); delete {run} to train again"
            )
        return _read_state(manager, newest, _read_run(manager, step), state)


def _manager(folder: pathlib.Path, **options: Any) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        folder.absolute(),
        # Nothing is read before its seal is.
        options=ocp.CheckpointManagerOptions(lightweight_initialize=True, **options),
        item_names=("state", "run"),
    )


def _read_run(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    return manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]


def _read_state(
    manager: ocp.CheckpointManager, folder: pathlib.Path, run: Mapping[str, Any], state: Any
) -> Any:
    """Restores the state of a checkpoint whose files are sound, if it is of such a state."""
    found, wanted = run["arrays"], _arrays(state)
    differing = [name for name in found | wanted if found.get(name) != wanted.get(name)]
    if differing:
        name = differing[0]
        raise UserError(
            f"checkpoint {folder} is sound but holds other networks than this configuration makes: "
            f"{name} is {found.get(name, 'not in it')}, not {wanted.get(name, 'wanted')}; give the "
            "configuration it was made with, or pass --overwrite to begin again"
        )
    args = ocp.args.Composite(state=ocp.args.StandardRestore(state))
    return manager.restore(int(folder.name), args=args)["state"]


def _arrays(state: Any) -> dict[str, str]:
    """Name to type and shape of every array of a state."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _readable(key: jax.Array) -> list[int]:
    return np.asarray(jax.random.key_data(key)).tolist()
