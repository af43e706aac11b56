"""Updates that are not finite: dropped, told, gone back from once, and then the end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.errors import UserError
from launch import guard
from tests.launch import toy


def at(*numbers):
    return lambda number, key: jnp.isin(number, jnp.array(numbers))


def from_on(first):
    return lambda number, key: number >= first


def from_on_until_rolled_back(first):
    def poison(number, key):
        same = jnp.array_equal(jax.random.key_data(key), jax.random.key_data(toy.KEY))
        return (number >= first) & same

    return poison


def test_update_is_dropped_counted_and_named(tmp_path, capsys):
    trained = toy.train(tmp_path, 20, poison=at(7, 8, 15))
    assert np.isfinite(trained.weights).all()
    assert int(trained.step) == 20
    lines = {line["step"]: line for line in toy.lines(tmp_path)}
    assert [lines[step]["skipped"] for step in (5, 10, 15, 20)] == [0, 2, 3, 3]
    assert lines[10]["skipped_steps"] == [7, 8]
    assert lines[15]["skipped_steps"] == [15]
    assert lines[15]["loss"] is None
    assert "skipped_steps" not in lines[20]
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "test: loss not finite; dropped the update of steps 7, 8",
        "test: loss not finite; dropped the update of step 15",
    ]


def test_what_a_dropped_update_leaves_is_the_state_before_it():
    step = jax.jit(guard.guarded(functools.partial(toy.step, poison=at(2))))
    batch = toy.Batches()[0]
    state = guard.Guarded(toy.State(jnp.zeros((), jnp.int32), jnp.ones(3)), guard.no_counts())
    first, _ = step(state, batch, toy.KEY)
    second, (_, counts) = step(first, batch, toy.KEY)
    np.testing.assert_array_equal(second.inner.weights, first.inner.weights)
    assert int(second.inner.step) == 2
    assert (int(counts.skipped), int(counts.in_row)) == (1, 1)
    third, (_, counts) = step(second, batch, toy.KEY)
    assert not jnp.array_equal(third.inner.weights, second.inner.weights)
    assert (int(counts.skipped), int(counts.in_row)) == (1, 0)


def test_a_state_that_is_not_finite_is_dropped_though_all_metrics_are():
    def overflow(state, batch, key):
        new, metrics = toy.step(state, batch, key)
        return new.replace(weights=new.weights.at[1].set(jnp.inf)), metrics

    state = guard.Guarded(toy.State(jnp.zeros((), jnp.int32), jnp.ones(3)), guard.no_counts())
    new, (metrics, counts) = jax.jit(guard.guarded(overflow))(state, toy.Batches()[0], toy.KEY)
    np.testing.assert_array_equal(new.inner.weights, np.ones(3))
    assert np.isfinite(metrics["loss"])
    assert int(counts.skipped) == 1
    assert guard.Watch("test", 5).read(1, (metrics, counts))["skipped"] == 1


def test_a_guarded_step_computes_what_the_step_does():
    batch, state = toy.Batches()[0], toy.State(jnp.zeros((), jnp.int32), jnp.ones(3))
    plain, metrics = jax.jit(toy.step)(state, batch, toy.KEY)
    held = guard.Guarded(state, guard.no_counts())
    guarded, (same, _) = jax.jit(guard.guarded(toy.step))(held, batch, toy.KEY)
    jax.tree.map(np.testing.assert_array_equal, (plain, metrics), (guarded.inner, same))


def test_many_in_a_row_go_back_once_and_then_on(tmp_path, capsys):
    poison = from_on_until_rolled_back(23)
    trained = toy.train(tmp_path, 60, poison=poison, rules=toy.rules(skip_limit=4))
    assert int(trained.step) == 60
    # Steps 23 to 30 are bad; the end of patience is noticed with the line of step 30.
    note = next(line for line in toy.lines(tmp_path) if "rollback" in line)
    assert note == {"step": 20, "rollback": 1, "from": 30, "because": "loss not finite"}
    assert [line["step"] for line in toy.lines(tmp_path)] == [
        5, 10, 15, 20, 20, 25, 30, 35, 40, 45, 50, 55, 60,
    ]  # fmt: skip
    assert "going back to step 20, once" in capsys.readouterr().err


@pytest.mark.parametrize(("step", "time"), [(27, 1), (27, 2), (50, 1)])
def test_going_back_is_resumed_like_anything_else(tmp_path, step, time):
    """Killed amid the bad steps; after going back, before the next checkpoint; after that."""
    options = {"poison": from_on_until_rolled_back(23), "rules": toy.rules(skip_limit=4)}
    whole = toy.train(tmp_path / "whole", 60, **options)
    seen = []

    def kill(number, state):
        seen.append(number)
        if number == step and seen.count(step) == time:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.train(tmp_path / "parts", 60, hook=kill, **options)
    parts = toy.train(tmp_path / "parts", 60, **options)
    np.testing.assert_array_equal(whole.weights, parts.weights)
    assert toy.lines(tmp_path / "whole") == toy.lines(tmp_path / "parts")


def test_many_in_a_row_again_is_the_end(tmp_path):
    options = {"poison": from_on(23), "rules": toy.rules(skip_limit=4)}
    for _ in range(2):  # the same command ends the same way
        with pytest.raises(
            UserError, match=r"loss not finite for \d+ steps up to step 30, and had"
        ):
            toy.train(tmp_path, 60, **options)
    assert toy.saved(tmp_path) == [10, 20]


def test_without_a_checkpoint_many_in_a_row_is_the_end(tmp_path):
    with pytest.raises(UserError, match="up to step 5, with no checkpoint to go back to; lower"):
        toy.train(tmp_path, 60, poison=from_on(2), rules=toy.rules(skip_limit=4))


def test_more_dropped_updates_than_are_remembered_are_still_counted(tmp_path, capsys):
    rules = toy.rules(skip_limit=100)
    toy.train(
        tmp_path, 30, poison=at(*range(2, 26)), rules=rules, log_every=30, checkpoint_every=30
    )
    (line,) = toy.lines(tmp_path)
    assert line["skipped"] == 24
    assert line["skipped_steps"] == list(range(10, 26))
    assert "24, 25 and 8 before" in capsys.readouterr().err
