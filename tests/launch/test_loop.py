import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.errors import UserError
from launch import rng
from tests.launch import toy


def test_stopping_and_going_on_is_the_same_as_going_through(tmp_path):
    whole = toy.train(tmp_path / "whole", 30)
    toy.train(tmp_path / "halves", 10)
    halves = toy.train(tmp_path / "halves", 30)
    np.testing.assert_array_equal(whole.weights, halves.weights)
    assert int(halves.step) == 30
    assert toy.lines(tmp_path / "whole") == toy.lines(tmp_path / "halves")


def test_lines_logged_past_the_checkpoint_and_half_lines_are_dropped(tmp_path):
    toy.train(tmp_path, 10)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "loss": 0.5}\n{"step": 20, "lo')
    toy.train(tmp_path, 20)
    assert [line["step"] for line in toy.lines(tmp_path)] == [5, 10, 15, 20]
    assert all(line["loss"] != 0.5 for line in toy.lines(tmp_path))


@pytest.mark.parametrize("line", [b"\0\0\0", b'{"step": 5, "lo', b"\xff{}", b"7", b"{}"])
def test_a_line_that_cannot_be_read_ends_what_is_kept(tmp_path, line):
    toy.train(tmp_path, 10)
    path = tmp_path / "metrics.jsonl"
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, line, second, b""]))
    toy.train(tmp_path, 10)
    assert path.read_bytes() == first + b"\n"


def test_no_checkpoint_is_written_when_none_is_wanted(tmp_path):
    toy.train(tmp_path, 10, checkpoints=False)
    assert not (tmp_path / "checkpoints").exists()


def test_another_seed_or_purpose_is_refused(tmp_path):
    toy.train(tmp_path, 10)
    for key in (rng.key(1, "test"), rng.key(0, "tests")):
        with pytest.raises(UserError, match=r"checkpoints/10 is of another seed or stage"):
            toy.train(tmp_path, 20, key=key)


def test_time_is_told_in_a_file_of_its_own(tmp_path):
    toy.train(tmp_path, 10)
    first, *later = toy.lines(tmp_path, "timing")
    assert first["step"] == 1
    assert 0 < first["first_step"] < first["first_step_since_program_start"]
    assert [line["step"] for line in later] == [5, 10]
    for line in later:
        assert 0 <= line["loader_wait"] <= 1
        assert line["images_per_second"] == pytest.approx(8 * line["steps_per_second"], rel=0.01)
    assert all(line.keys() == {"step", "loss", "skipped"} for line in toy.lines(tmp_path))


def test_waiting_for_a_slow_loader_is_measured(tmp_path, monkeypatch):
    def slow(self, index):
        time.sleep(0.02)
        return {"image": np.zeros((8, 3), np.float32)}

    monkeypatch.setattr(toy.Batches, "__getitem__", slow)
    toy.train(tmp_path, 20)
    assert toy.lines(tmp_path, "timing")[-1]["loader_wait"] > 0.5


def test_keys_and_seeds_differ_by_purpose_and_not_by_chance():
    assert rng.fold(0, "gan") == rng.fold(0, "gan")
    assert len({rng.fold(seed, name) for seed in range(3) for name in "abc"}) == 9
    first, second = rng.key(0, "gan", 1), rng.key(0, "gan", 2)
    assert not jnp.array_equal(jax.random.key_data(first), jax.random.key_data(second))
