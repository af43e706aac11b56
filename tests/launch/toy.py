"""A training so small that the loop around it is what is tested."""

import functools
import json

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from configs import default
from launch import loop, rng
from launch import mesh as mesh_lib

NO_THREADS = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
KEY = rng.key(0, "test")


class State(struct.PyTreeNode):
    step: jax.Array
    weights: jax.Array


def never(number, key):
    return False


def step(state, batch, key, *, poison=never):
    """`poison(number of the update, key)` tells where the loss is not a number."""
    noise = jax.random.normal(jax.random.fold_in(key, state.step), state.weights.shape)
    gradient = state.weights - batch["image"].mean(0) + 0.1 * noise
    loss = jnp.where(poison(state.step + 1, key), jnp.nan, jnp.square(gradient).sum())
    return State(state.step + 1, state.weights - 0.1 * gradient), {"loss": loss}


class Batches(grain.sources.RandomAccessDataSource):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return {"image": np.random.default_rng(index).normal(size=(8, 3)).astype(np.float32)}


def rules(**changes):
    settings = default.get_config().train
    settings.update(changes)
    return settings


def train(folder, steps, *, poison=never, weights=3, **options):
    mesh = mesh_lib.make_mesh()
    state = State(jnp.zeros((), jnp.int32), jnp.zeros(weights))
    return loop.train(
        step=mesh_lib.jit_step(functools.partial(step, poison=poison), mesh),
        state=jax.device_put(state, mesh_lib.replicated(mesh)),
        loader=iter(grain.MapDataset.source(Batches()).to_iter_dataset(NO_THREADS)),
        mesh=mesh,
        steps=steps,
        folder=folder,
        name="test",
        **{"log_every": 5, "checkpoint_every": 10, "rules": rules(), "key": KEY, "show": False}
        | options,
    )


def lines(folder, name="metrics"):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def saved(folder):
    """Steps of the checkpoints."""
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
