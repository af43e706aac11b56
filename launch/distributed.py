"""Several processes, one run: who writes what all share, and where they wait for each other."""

import jax
from jax.experimental import multihost_utils


def is_main() -> bool:
    """Whether this process writes what there is once per run (stage.json, tables, pictures)."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has come to the barrier of this name; nothing in one process."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
