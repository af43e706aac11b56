"""Preparation that was stopped and goes on: to the same bytes, whatever was half done."""

import functools
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data import record_writer, shards, tables
from data.sources import parts
from launch import prepare, stage
from tests.launch import preparing, programs


@pytest.fixture(scope="module")
def pngs(tmp_path_factory):
    """64 files of two classes and odd sizes, one of them damaged."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("pngs")
    for i in range(64):
        path = root / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 10 + i % 5), dtype=np.uint8)).save(path)
    path.write_bytes(b"no image")
    return root


def _prepared(workdir, root, *flags) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.launch.preparing", str(workdir), f"folder:{root}", *flags],
        cwd=programs.ROOT, env=programs.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.splitlines()


def _files(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "stage.json"}


@pytest.fixture(scope="module")
def straight(pngs, tmp_path_factory):
    """The data of one process that nobody disturbed, and its facts."""
    workdir = tmp_path_factory.mktemp("straight")
    code, _ = _prepared(workdir, pngs)
    assert code == 0
    return _files(workdir / "data"), stage.read(workdir, "data")["facts"]


@pytest.mark.parametrize("moment", ["read", "write"])
def test_kill_minus_nine_goes_on_to_the_same_bytes(pngs, straight, tmp_path, moment):
    code, lines = _prepared(tmp_path, pngs, "--workers=2", f"--kill={moment}")
    assert code == -signal.SIGKILL
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["stage.json"]
    assert [line for line in lines if line.startswith("read")][-1] == (
        f"read {preparing.KILLED_AFTER if moment == 'read' else 64}"
    )
    left = len(list((tmp_path / ".data.unfinished" / ".spool").glob("*.parquet")))
    assert left >= preparing.KILLED_AFTER
    code, lines = _prepared(tmp_path, pngs)
    assert code == 0
    assert sum(line.startswith("read") for line in lines) == 64 - left
    assert _files(tmp_path / "data") == straight[0]
    assert stage.read(tmp_path, "data")["facts"] == straight[1]
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


class _Killed(BaseException):
    """Stands for kill -9: from some change of the disk on, none is made any more."""


def _dying(patch: pytest.MonkeyPatch, after: int) -> "itertools.count[int]":
    """Lets this many changes of the disk pass and raises at all later ones; counts down."""
    left = itertools.count(after, -1)
    for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
        do = getattr(os, name)

        def change(*args, do=do, **kwargs):
            if next(left) <= 0:
                raise _Killed
            return do(*args, **kwargs)

        patch.setattr(os, name, change)
    return left


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 4 records, quickly written."""
    monkeypatch.setattr(record_writer, "SHARD_ROWS", 4)
    monkeypatch.setattr(stage, "code", lambda: "")  # asks git, which takes its time
    monkeypatch.setattr(tables, "fsync", lambda path: None)  # no power fails here


@pytest.fixture
def few(pngs, tmp_path, small_shards):
    """18 of the files in a folder."""
    for path in sorted(pngs.rglob("*.png"))[:9] + sorted(pngs.rglob("*.png"))[-10:-1]:
        (tmp_path / "few" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "few" / path.parent.name)
    return tmp_path / "few"


def _run(source, workdir) -> dict[str, bytes]:
    """Prepares a folder of images in this process; the files that came of it."""
    prepare.run(preparing.config(f"folder:{source}"), workdir, False)
    assert [p.name for p in workdir.iterdir()] == ["data"]
    return _files(workdir / "data")


def _killed(source, workdir, kill: Callable[[pytest.MonkeyPatch], object]) -> None:
    """The same, with something patched that stands for a kill."""
    with pytest.MonkeyPatch.context() as patch:
        kill(patch)
        with pytest.raises(_Killed):
            _run(source, workdir)


def test_killed_at_changes_of_the_disk_it_goes_on(few, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        left = _dying(patch, 10**6)
        straight = _run(few, workdir)
        changes = 10**6 - next(left)
    shutil.rmtree(workdir)
    # Anywhere, and at each of the last, when the folders change their places.
    for after in [*range(0, changes - 60, 9), *range(changes - 60, changes)]:
        _killed(few, workdir, lambda patch, after=after: _dying(patch, after))
        assert _run(few, workdir) == straight, after
        shutil.rmtree(workdir)


def _at(number: int, patch: pytest.MonkeyPatch, owner: object, name: str, half: Callable) -> None:
    """Kills within call `number` of a function, of which `half` does a part."""
    calls, do = itertools.count(), getattr(owner, name)

    def call(*args, **kwargs):
        if next(calls) < number:
            return do(*args, **kwargs)
        half(do, *args, **kwargs)
        _dying(patch, 0)
        raise _Killed

    patch.setattr(owner, name, call)


def _half_table(write, table, where):
    write(table, where)
    os.truncate(where, os.path.getsize(where) // 2)


def _half_text(write, path, text, **kwargs):
    write(path, text[: len(text) // 2], **kwargs)


def _half_shard(write, writer, records):
    write(writer, records[: len(records) // 2])
    writer.close()


def _half_part(read, work, entry, file, rows, told):
    read(work, entry, file, rows, told)
    file.flush()


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize(
    ("owner", "name", "half"),
    [
        (pq, "write_table", _half_table),  # what is known of a part, last of its files
        (parts, "_read_entry", _half_part),  # pixels of a part
        (shards.ShardWriter, "write", _half_shard),
        (pathlib.Path, "write_text", _half_text),  # that a shard is finished, keys and facts
    ],
)
def test_killed_in_the_middle_of_a_file_it_goes_on(few, tmp_path, owner, name, half, number):
    straight = _run(few, tmp_path / "straight")
    workdir = tmp_path / "run"
    _killed(few, workdir, lambda patch: _at(number, patch, owner, name, half))
    assert _run(few, workdir) == straight


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_killed_among_masks_it_goes_on(tmp_path, small_shards, share):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(40) % 2, masks=255 - pixels)
    config = preparing.config(f"npz:{tmp_path / 'a.npz'}")

    def run(workdir) -> dict[str, bytes]:
        prepare.run(config, workdir, False)
        files = [path for path in (workdir / "data").rglob("*") if path.is_file()]
        return {str(p.relative_to(workdir)): p.read_bytes() for p in files if p.stem != "stage"}

    with pytest.MonkeyPatch.context() as patch:
        writes, write = itertools.count(), shards.ShardWriter.write
        patch.setattr(shards.ShardWriter, "write", lambda *args: (next(writes), write(*args))[1])
        straight = run(tmp_path / "straight")
    # Images and their masks take as many writes.
    kill = int(share * next(writes))
    with pytest.MonkeyPatch.context() as patch:
        _at(kill, patch, shards.ShardWriter, "write", _half_shard)
        with pytest.raises(_Killed):
            run(tmp_path / "run")
    assert not (tmp_path / "run" / "data" / "masks").exists()
    assert run(tmp_path / "run") == straight
    assert sum("/masks/" in name for name in straight) > 5


def _die_at_part(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: _at(number, patch, parts, "_read_entry", lambda *args: None)


@pytest.mark.parametrize("height", [30, 20])
@pytest.mark.parametrize("shards_written", [False, True])
def test_parts_of_other_files_are_not_gone_on_with(few, tmp_path, height, shards_written):
    """A picture changes after its part was read and before the run goes on."""
    workdir, first = tmp_path / "run", min(few.rglob("*.png"))
    Image.new("L", (9, 20), 100).save(first, compress_level=0)
    size = first.stat().st_size
    kill = _die_at_part(10)
    if shards_written:
        half = {"owner": shards.ShardWriter, "name": "write", "half": _half_shard}
        kill = functools.partial(_at, 3, **half)
    _killed(few, workdir, kill)
    Image.new("L", (9, height), 200).save(first, compress_level=0)
    assert (first.stat().st_size == size) == (height == 20)
    assert _run(few, workdir) == _run(few, tmp_path / "straight")


def test_parts_of_another_version_are_not_gone_on_with(few, tmp_path, monkeypatch):
    straight = _run(few, tmp_path / "straight")
    workdir = tmp_path / "run"
    _killed(few, workdir, _die_at_part(10))
    for path in (workdir / ".data.unfinished" / ".spool").glob("*.bin"):
        path.write_bytes(path.read_bytes()[::-1])  # as if it laid images out otherwise
    monkeypatch.setattr(prepare, "_LAYOUT", "layout 0")
    assert _run(few, workdir) == straight


def test_a_folder_half_deleted_for_another_run_is_not_gone_on_with(few, tmp_path):
    straight = _run(few, tmp_path / "straight")
    other = tmp_path / "other"
    shutil.copytree(few, other)
    Image.new("L", (9, 30), 200).save(min(other.rglob("*.png")))
    workdir = tmp_path / "run"
    for after in range(1, 40, 3):
        _killed(few, workdir, _die_at_part(10))
        _killed(other, workdir, lambda patch, after=after: _dying(patch, after))
        assert _run(few, workdir) == straight, after
        shutil.rmtree(workdir)
