"""Checkpoints: state and loader position together, written aside, asynchronously, by orbax."""

import logging
import pathlib
from typing import Any

import grain.checkpoint
import jax
import orbax.checkpoint as ocp

from data.errors import UserError, reason

logging.getLogger("orbax").setLevel(logging.ERROR)
# Orbax speaks through absl at every save; a progress bar does not survive that.
logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoints:
    """The checkpoints of one training run.

    Args:
      folder: created when the first checkpoint is saved.
      keep: how many of the newest are kept.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 2):
        self.folder = folder
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        )

    @classmethod
    def open(cls, run: pathlib.Path, state: Any) -> Any:
        """Returns the state in the newest checkpoint of a finished training in folder `run`.

        Raises:
          UserError: there is none, or it cannot be read.
        """
        checkpoints = cls(run / "checkpoints")
        step, restored = checkpoints.restore(state)
        checkpoints.close()
        if step == 0:
            raise UserError(f"{run} holds no checkpoint; delete {run} to train again")
        return restored

    def restore(self, state: Any, loader: Any = None) -> tuple[int, Any]:
        """Returns `(step, state)` of the newest checkpoint, or `(0, state)` if there is none.

        Args:
          state: tells structure, shapes and shardings.
          loader: iterator that is moved to the recorded position.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return 0, state
        args = {"state": ocp.args.StandardRestore(jax.tree.map(_abstract, state))}
        if loader is not None:
            args["data"] = grain.checkpoint.CheckpointRestore(loader)
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        except (ValueError, OSError, KeyError) as error:
            raise UserError(
                f"checkpoint {self.folder / str(step)} cannot be read ({reason(error)}); "
                "delete that folder to go on from the one before"
            ) from error
        return step, restored["state"]

    def save(self, step: int, state: Any, loader: Any) -> None:
        """Starts to save; returns before the files are complete."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), data=grain.checkpoint.CheckpointSave(loader)
            ),
        )

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
