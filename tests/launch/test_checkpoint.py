"""Saving does not hold the loop up, old checkpoints go, and damaged ones are noticed."""

import errno
import shutil
import threading

import jax
import numpy as np
import pytest

from data import tables
from data.errors import UserError
from launch import checkpoint, seals
from launch import mesh as mesh_lib
from tests.launch import toy


def empty(file):
    file.write_bytes(b"")


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def remove(file):
    file.unlink()


DAMAGES = (empty, truncate, flip, remove)


def _files(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def test_the_loop_goes_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The first write does not end before the loop is five steps on."""
    went_on, written = threading.Event(), []

    def slowly(folder):
        written.append(went_on.wait(30))
        seals.seal(folder)

    monkeypatch.setattr(checkpoint, "seals", type("", (), {"seal": slowly, "damage": seals.damage}))

    def hook(number, state):
        if number == 15:
            assert not (tmp_path / "checkpoints" / "10").exists()
            went_on.set()

    toy.train(tmp_path, 20, hook=hook)
    assert written == [True, True]
    assert toy.saved(tmp_path) == [10, 20]


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"keep": 1}, [60]),
        ({"keep": 3}, [40, 50, 60]),
        ({"keep": 2, "keep_every": 20}, [20, 40, 50, 60]),
    ],
)
def test_the_newest_and_every_so_many_are_kept(tmp_path, rules, left):
    toy.train(tmp_path, 60, rules=toy.rules(**rules))
    assert toy.saved(tmp_path) == left


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    """A run of 20 steps with checkpoints at 10 and 20, and its state."""
    folder = tmp_path_factory.mktemp("twenty")
    return folder, toy.train(folder, 20)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_is_noticed(twenty, tmp_path, capsys, damage):
    source, trained = twenty
    for name in _files(source / "checkpoints" / "20"):
        folder = tmp_path / "checkpoints"
        shutil.copytree(source / "checkpoints", folder)
        damage(folder / "20" / name)
        checkpoints = checkpoint.Checkpoints(folder, toy.KEY)
        step, state, _ = checkpoints.restore(mesh_lib.described(trained))
        said = capsys.readouterr().err
        if str(name) in ("_CHECKPOINT_METADATA", "commit_success.txt") and step == 20:
            # What orbax notes for itself; nothing of the run is in it.
            np.testing.assert_array_equal(state.weights, trained.weights)
            assert not said
        else:
            assert step == int(state.step) == 10, name
            assert f"{folder}/20 cannot be read" in said
            assert said.count("\n") == 1
            assert [path.name for path in (tmp_path / "checkpoints.damaged").iterdir()] == ["20"]
            checkpoints.save(20, trained, {})  # the step can be saved again
        checkpoints.close()
        assert toy.saved(tmp_path) == [10, 20], name
        shutil.rmtree(folder)


def test_what_cannot_be_read_is_damaged(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("content")
    seals.seal(tmp_path)
    assert seals.damage(tmp_path) is None

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(tables, "file_sha256", fail)
        assert seals.damage(tmp_path) == "file cannot be read: Input/output error"
    (tmp_path / seals.NAME).write_text('["file"]')
    assert seals.damage(tmp_path) == "digests.json is missing or damaged"
    (tmp_path / seals.NAME).unlink()
    (tmp_path / seals.NAME).mkdir()
    assert seals.damage(tmp_path) == "digests.json is missing or damaged"


def test_the_one_before_stands_in_for_a_damaged_one(twenty, tmp_path, capsys):
    run = shutil.copytree(twenty[0], tmp_path / "run")
    flip(run / "checkpoints" / "20" / "state" / "manifest.ocdbt")
    trained = toy.train(run, 30)
    assert "going on from step 10" in capsys.readouterr().err
    np.testing.assert_array_equal(trained.weights, toy.train(tmp_path / "whole", 30).weights)
    assert toy.saved(run) == [20, 30]


def test_when_all_are_damaged_nothing_is_touched_and_the_folder_named(tmp_path):
    toy.train(tmp_path, 20)
    for step in (10, 20):
        flip(tmp_path / "checkpoints" / str(step) / "state" / "manifest.ocdbt")
    with pytest.raises(UserError, match=r"checkpoints/20 cannot be read .*delete .*checkpoints to"):
        toy.train(tmp_path, 30)
    assert toy.saved(tmp_path) == [10, 20]


def test_another_configuration_is_not_called_damage(tmp_path, capsys):
    toy.train(tmp_path, 20)
    with pytest.raises(
        UserError, match=r"is sound but .* weights is float32\[3\], not float32\[4\]"
    ):
        toy.train(tmp_path, 30, weights=4)
    assert toy.saved(tmp_path) == [10, 20]
    assert not capsys.readouterr().err


def test_a_finished_training_is_opened_at_its_end_or_not_at_all(tmp_path):
    trained = toy.train(tmp_path, 20)
    described = mesh_lib.described(trained)
    opened = checkpoint.open_last(tmp_path, described)
    jax.tree.map(np.testing.assert_array_equal, trained, opened)
    earlier = checkpoint.open_last(tmp_path, described, step=10)
    assert (earlier.step, opened.step) == (10, 20)
    with pytest.raises(UserError, match="holds no checkpoint of step 15"):
        checkpoint.open_last(tmp_path, described, step=15)
    flip(tmp_path / "checkpoints" / "20" / "state" / "manifest.ocdbt")
    with pytest.raises(UserError, match=r"checkpoints/20 cannot be read .*delete"):
        checkpoint.open_last(tmp_path, described)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoint.open_last(tmp_path, described)
