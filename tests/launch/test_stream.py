"""Pools made and filtered by several processes, killed, or on a full disk: always the same pool."""

import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tracemalloc
import types

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import stream as benchmark
from configs import default
from data import pools, records, tables
from data.errors import UserError
from launch import filter as filter_stage
from launch import generate, generators, stage, stream
from tests import pool_writer
from tests.launch import programs, streaming


def _start(workdir: pathlib.Path, *flags: str, devices: int = 1) -> subprocess.Popen:
    environment = programs.environment()
    if devices > 1:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.launch.streaming", str(workdir), *flags],
        cwd=programs.ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _end(process: subprocess.Popen) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """A work directory with networks, before the second pool."""
    folder = tmp_path_factory.mktemp("trained")
    return benchmark.make_workdir(streaming.config(folder), folder)


@pytest.fixture(scope="module")
def straight(trained, tmp_path_factory) -> pathlib.Path:
    """The work directory after an undisturbed run in one process on one device."""
    workdir = _copy(trained, tmp_path_factory.mktemp("straight"))
    code, output = _end(_start(workdir))
    assert code == 0, output
    return workdir


def _copy(trained: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    shutil.copy(trained.parent / "real.npz", folder)
    return pathlib.Path(shutil.copytree(trained, folder / "run"))


def _images(workdir: pathlib.Path) -> dict[str, bytes]:
    """Sample id to pixels."""
    pool = pools.open_pool(workdir / "pools" / "second")
    return dict(
        zip(pool.ids.tolist(), map(bytes, pool.read_raw(np.arange(len(pool)))), strict=True)
    )


def _files(folder: pathlib.Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "stage.json"}


def _scores(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    return tables.read_parquet(workdir / "filter" / "scores.parquet")


def test_shares_are_even_and_cover_everything():
    assert stream.shares(10, 3) == [(0, 3), (3, 6), (6, 10)]
    assert stream.shares(2, 5) == [(0, 1), (1, 2)]
    ranges = stream.shares(10 * stream.SHARE + 1)
    assert len(ranges) == 11
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 10 * stream.SHARE + 1
    assert all(one[1] == two[0] for one, two in itertools.pairwise(ranges))


def test_an_undisturbed_run(straight):
    assert sorted(p.name for p in (straight / "pools").iterdir()) == ["second"]
    folder = straight / "pools" / "second"
    assert len(list(folder.glob("pool-train.array_record-*-of-00004"))) == 4
    assert not list(folder.glob(".*"))
    pool = pools.open_pool(folder)
    assert len(pool) == 10 * streaming.PER_CLASS
    np.testing.assert_array_equal(pool.seeds, 2**31 + np.arange(len(pool)))
    np.testing.assert_array_equal(pool.labels, np.arange(len(pool)) % 10)
    assert sorted(p.name for p in (straight / "filter").iterdir()) == [
        "embeddings.npz", "scores.parquet", "stage.json",
    ]  # fmt: skip
    table = _scores(straight)
    assert len(table["score"]) == 5 * len(pool)
    for name in dict.fromkeys(table["filter"]):
        rows = table["filter"] == name
        np.testing.assert_array_equal(table["sample_id"][rows], pool.ids)
        kept = pool.labels[table["kept"][rows]]
        np.testing.assert_array_equal(np.bincount(kept), [streaming.PER_CLASS // 2] * 10)
    assert len(tables.map_npz(straight / "filter" / "embeddings.npz")["second"]) == len(pool)


def test_two_processes_with_two_devices_each_share_the_shards(trained, straight, tmp_path):
    workdir = _copy(trained, tmp_path)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    running = [_start(workdir, f"--peers={port},2,{i}", devices=2) for i in range(2)]
    ended = [_end(process) for process in running]
    assert [code for code, _ in ended] == [0, 0], ended
    written = [
        {line for line in text.splitlines() if line.startswith("wrote")} for _, text in ended
    ]
    assert written == [{"wrote 0", "wrote 2"}, {"wrote 1", "wrote 3"}]
    assert _images(workdir) == _images(straight)
    one, two = _scores(straight), _scores(workdir)
    np.testing.assert_array_equal(one["sample_id"], two["sample_id"])
    # A device has half the rows here, which may round otherwise.
    np.testing.assert_allclose(one["score"], two["score"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stage", ["pool", "filter"])
def test_kill_minus_nine_goes_on_with_the_next_share(trained, straight, tmp_path, stage):
    workdir = _copy(trained, tmp_path)
    code, output = _end(_start(workdir, f"--kill={stage}"))
    assert code == -signal.SIGKILL, output
    folder = workdir / {"pool": "pools/second", "filter": "filter"}[stage]
    assert json.loads((folder / "stage.json").read_text())["status"] == "running"
    assert not list(folder.glob("*.array_record*"))
    assert not (folder / "scores.parquet").exists()
    code, output = _end(_start(workdir))
    assert code == 0, output
    lines = output.splitlines()
    if stage == "pool":
        assert [line for line in lines if line.startswith("wrote")] == ["wrote 2", "wrote 3"]
    else:
        assert not [line for line in lines if line.startswith("wrote")]
        again = [line for line in lines if line.startswith("scored 0")]
        assert len(again) == 3
    assert _files(workdir / "pools" / "second") == _files(straight / "pools" / "second")
    assert (workdir / "filter" / "scores.parquet").read_bytes() == (
        straight / "filter" / "scores.parquet"
    ).read_bytes()
    assert [p.name for p in (workdir / "pools").iterdir()] == ["second"]


def test_a_killed_filter_goes_on_with_as_many_rows_per_device_only(trained, straight, tmp_path):
    workdir = _copy(trained, tmp_path)
    code, output = _end(_start(workdir, "--kill=filter", devices=2))
    assert code == -signal.SIGKILL, output
    assert len(list((workdir / "filter").rglob("*.npz"))) == 1
    code, output = _end(_start(workdir))
    assert code == 0, output
    assert len([line for line in output.splitlines() if line.startswith("scored 0")]) == 4
    for name, scores in _scores(straight).items():
        np.testing.assert_array_equal(_scores(workdir)[name], scores)
    assert not (workdir / "filter" / "parts").exists()


class _Killed(BaseException):
    """Stands for kill -9: from some change of the disk on, none is made any more."""


def _die(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Lets this many renamings, removals and new folders pass, and raises at all later ones."""
    left = itertools.count(after, -1)
    for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
        do = getattr(os, name)

        def change(*args: object, do=do, **kwargs: object) -> None:
            if next(left) <= 0:
                raise _Killed
            do(*args, **kwargs)

        monkeypatch.setattr(os, name, change)


class _Grey:
    """In the place of a generator: image i is as bright as its seed."""

    batch = 4

    def __init__(self, rows_per_device: int) -> None:
        self.rows_per_device = rows_per_device
        self.made: list[int] = []
        self.finite = np.ones(4, bool)

    def ahead(self, jobs):
        for tag, (seeds, _) in jobs:
            self.made += (seeds - 2**31).tolist()
            images = np.broadcast_to(seeds[:, None, None, None], (len(seeds), 2, 2, 1))
            yield tag, (images.astype(np.uint8), self.finite[: len(seeds)])


def _toy_pool(
    workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch, rows_per_device: int = 4
) -> list[int]:
    """Makes a pool of 12 images in 3 shards; returns the images that were drawn."""
    config, grey = default.get_config(), _Grey(rows_per_device)
    config.generate.second_per_class, config.generate.shards = 6, 3
    monkeypatch.setattr(generators, "open_generator", lambda *_: grey)
    generate.make_pool(config, workdir, "second", overwrite=False)
    return grey.made


@pytest.fixture
def toy_trained(tmp_path) -> pathlib.Path:
    """A work directory with two images and no networks."""
    images = records.ArrayRecords(np.zeros((2, 2, 2, 1), np.uint8), [0, 1], ["a", "b"], ["c", "d"])
    records.write_records(tmp_path / "run" / "data", {"train": images})
    stage.begin(tmp_path / "run", "data", {}).finish(digest="0" * 64)
    stage.begin(tmp_path / "run", "gan", {}, ["data"]).finish(checkpoint_digest="1" * 64)
    return tmp_path / "run"


def test_a_pool_killed_at_any_change_of_the_disk_goes_on(toy_trained, tmp_path, monkeypatch):
    straight = shutil.copytree(toy_trained, tmp_path / "straight")
    assert _toy_pool(straight, monkeypatch) == list(range(12))
    monkeypatch.setattr(stage, "code", lambda: "")  # asks git, which takes its time
    for changes in itertools.count():
        workdir = shutil.copytree(toy_trained, tmp_path / str(changes))
        with monkeypatch.context() as patch:
            _die(patch, changes)
            try:
                _toy_pool(workdir, patch)
                break
            except _Killed:
                pass
        folder = workdir / "pools" / "second"
        record = stage.read(workdir, "pools/second")
        complete = record is not None and record["status"] == "complete"
        finished = len(list(workdir.rglob(".shard-*[0-9].json")))
        made = _toy_pool(workdir, monkeypatch)
        assert made == list(range(12 if complete else 4 * finished, 12)), changes
        assert _files(folder) == _files(straight / "pools" / "second"), changes
        assert [p.name for p in (workdir / "pools").iterdir()] == ["second"], changes
        assert len(pools.open_pool(folder)) == 12
        shutil.rmtree(workdir)
    assert changes > 20


def test_a_killed_pool_goes_on_with_as_many_rows_per_device_only(toy_trained, monkeypatch):
    close = pools.PoolShard.close

    def killed(shard: pools.PoolShard) -> None:
        close(shard)
        raise _Killed

    for rows, made in ((4, range(4, 12)), (2, range(12))):
        shutil.rmtree(toy_trained / "pools", ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(pools.PoolShard, "close", killed)
            with pytest.raises(_Killed):
                _toy_pool(toy_trained, patch)
        assert _toy_pool(toy_trained, monkeypatch, rows) == list(made)


def test_a_generator_of_nan_images_makes_no_pool(toy_trained, monkeypatch):
    grey = _Grey(4)
    grey.finite[2] = False
    monkeypatch.setattr(generators, "open_generator", lambda *_: grey)
    with pytest.raises(UserError, match="makes NaN images: its training diverged"):
        generate.make_pool(default.get_config(), toy_trained, "second", overwrite=False)
    assert [p.name for p in (toy_trained / "pools").iterdir()] == ["second"]
    assert [p.name for p in (toy_trained / "pools" / "second").iterdir()] == ["stage.json"]


def test_a_filter_killed_once_it_is_finished_is_cleared_up(toy_trained):
    config, needs = default.get_config(), ["data", "gan", "features", "vrn", "pools/second"]
    for name in needs[2:]:
        stage.begin(toy_trained, name, {}).finish()
    settings = {"filter": config.filter.to_dict(), "seed": config.seed}
    stage.begin(toy_trained, "filter", settings, needs).finish()
    tables.write_npz(toy_trained / "filter" / "parts" / "1.npz", features=np.zeros(1))
    filter_stage.run(config, toy_trained, False)
    assert [p.name for p in (toy_trained / "filter").iterdir()] == ["stage.json"]


def test_a_full_disk_is_one_sentence_and_leaves_no_half_of_anything(trained, tmp_path):
    workdir = _copy(trained, tmp_path)
    # Bytes a file may have: less than a shard of this pool, more than stage.json.
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", limited, "-m", "launch.generate", "--pool=second"),
            *("--config=configs/default.py", f"--workdir={workdir}"),
            *(f"--config.gan.width={streaming.WIDTH}", "--config.generate.second_per_class=400"),
        ],
        cwd=programs.ROOT, env=programs.environment(), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "could not be written" in last
    assert "free some space" in last
    assert [p.name for p in (workdir / "pools").iterdir()] == ["second"]
    assert [p.name for p in (workdir / "pools" / "second").iterdir()] == ["stage.json"]


def test_what_is_held_of_every_image(tmp_path):
    """An open pool 8 bytes, choosing what is kept 16 of the images of one class out of ten."""
    share, classes, opened, chosen = 1000, 10, [], []
    for total in (2_000, 10_000, 50_000):  # the first takes what is loaded once
        folder, parts = tmp_path / f"pool{total}", tmp_path / f"parts{total}"
        ranges = stream.shares(total, total // share)
        with pool_writer.PoolWriter(
            folder, class_names=[str(k) for k in range(classes)], image_shape=(1, 1, 1),
            dtype=np.uint8, checkpoint_digest="a" * 64, data_digest="b" * 64,
        ) as writer:  # fmt: skip
            for start, stop in ranges:
                rows = np.arange(start, stop)
                writer.write(np.zeros((share, 1, 1, 1), np.float32), rows % classes, rows)
                tables.write_npz(
                    filter_stage._part(parts, start, stop),
                    score_vrn=np.sin(rows), features=np.zeros((share, 2)), probs=np.ones(share),
                )  # fmt: skip
        (tmp_path / "filter").mkdir(exist_ok=True)
        tracemalloc.start()
        pool = pools.open_pool(folder, hold=False)
        held = tracemalloc.get_traced_memory()[0]
        opened.append(held + pa.total_allocated_bytes())
        tracemalloc.reset_peak()
        filter_stage.combine(
            tmp_path / "filter", pool, parts, ranges, ["vrn"], total // classes // 2
        )
        chosen.append(tracemalloc.get_traced_memory()[1] - held)
        tracemalloc.stop()
    assert (opened[2] - opened[1]) / 40_000 < 9
    assert (chosen[2] - chosen[1]) / 40_000 < 4  # with what other threads take


def test_programs_give_back_what_tables_took():
    script = "import launch.filter, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    environment = programs.environment()
    environment.pop("ARROW_DEFAULT_MEMORY_POOL", None)  # this process may have set it
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=programs.ROOT, env=environment, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["system"]


def test_shares_of_any_length_hold_their_own_rows(tmp_path):
    images = np.random.default_rng(0).normal(size=(15, 2, 2, 1)).astype(np.float32)
    labels = np.arange(15) % 3
    pool = types.SimpleNamespace(labels=labels, read=lambda rows: images[rows])

    def look(params, batch):
        pixels, label = batch
        return {"features": pixels[:, :, 0, 0], "probs": pixels[:, 0, :, 0], "vrn": params * label}

    def judge(seen, labels, first_row):
        assert len(labels) == len(seen["features"])
        return {"vrn": seen["vrn"] + first_row}

    ranges = [(0, 5), (5, 12), (12, 15)]
    forward = stream.Forward(look, np.float32(2), 4)
    filter_stage.score_shares(forward, judge, pool, tmp_path, ranges)
    for start, stop in ranges:
        part = tables.map_npz(filter_stage._part(tmp_path, start, stop))
        np.testing.assert_array_equal(part["features"], images[start:stop, :, 0, 0])
        np.testing.assert_array_equal(part["probs"], images[start:stop, 0, :, 0])
        np.testing.assert_array_equal(part["score_vrn"], 2 * labels[start:stop] + start)
