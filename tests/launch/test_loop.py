import functools
import json

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from data.errors import UserError
from launch import loop, rng
from launch import mesh as mesh_lib


class State(struct.PyTreeNode):
    step: jax.Array
    weights: jax.Array


def _step(state, batch, key, *, poison=-1):
    noise = jax.random.normal(jax.random.fold_in(key, state.step), state.weights.shape)
    gradient = state.weights - batch["image"].mean(0) + 0.1 * noise
    loss = jnp.where(state.step == poison, jnp.nan, jnp.square(gradient).sum())
    return State(state.step + 1, state.weights - 0.1 * gradient), {"loss": loss}


class _Batches(grain.sources.RandomAccessDataSource):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        return {"image": np.random.default_rng(index).normal(size=(8, 3)).astype(np.float32)}


def _train(folder, steps, poison=-1, **options):
    mesh = mesh_lib.make_mesh()
    loader = iter(grain.MapDataset.source(_Batches()).to_iter_dataset())
    state = jax.device_put(State(jnp.zeros((), jnp.int32), jnp.zeros(3)), mesh_lib.replicated(mesh))
    return loop.train(
        step=mesh_lib.jit_step(functools.partial(_step, poison=poison), mesh),
        state=state,
        loader=loader,
        key=rng.key(0, "test"),
        mesh=mesh,
        steps=steps,
        folder=folder,
        name="test",
        progress=False,
        **{"log_every": 5, "checkpoint_every": 10} | options,
    )


def _lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_stopping_and_going_on_is_the_same_as_going_through(tmp_path):
    whole = _train(tmp_path / "whole", 30)
    _train(tmp_path / "halves", 10)
    halves = _train(tmp_path / "halves", 30)
    np.testing.assert_array_equal(whole.weights, halves.weights)
    assert int(halves.step) == 30
    assert _lines(tmp_path / "whole") == _lines(tmp_path / "halves")


def test_lines_logged_past_the_checkpoint_and_half_lines_are_dropped(tmp_path):
    _train(tmp_path, 10)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "loss": 0.5}\n{"step": 20, "lo')
    _train(tmp_path, 20)
    assert [line["step"] for line in _lines(tmp_path)] == [5, 10, 15, 20]
    assert all(line["loss"] != 0.5 for line in _lines(tmp_path))


def test_non_finite_loss_stops_and_keeps_the_good_checkpoint(tmp_path):
    with pytest.raises(UserError, match="loss is nan at step 15"):
        _train(tmp_path, 30, poison=14)
    assert (tmp_path / "checkpoints" / "10").exists()
    assert not (tmp_path / "checkpoints" / "20").exists()


def test_no_checkpoint_is_written_when_none_is_wanted(tmp_path):
    _train(tmp_path, 10, checkpoints=False)
    assert not (tmp_path / "checkpoints").exists()


def test_damaged_checkpoint_is_named(tmp_path):
    _train(tmp_path, 10)
    for file in (tmp_path / "checkpoints" / "10" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(UserError, match=r"checkpoints/10 cannot be read"):
        _train(tmp_path, 20)


def test_keys_and_seeds_differ_by_purpose_and_not_by_chance():
    assert rng.fold(0, "gan") == rng.fold(0, "gan")
    assert len({rng.fold(seed, name) for seed in range(3) for name in "abc"}) == 9
    first, second = rng.key(0, "gan", 1), rng.key(0, "gan", 2)
    assert not jnp.array_equal(jax.random.key_data(first), jax.random.key_data(second))
