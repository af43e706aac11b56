"""Shares are finished on a thread while the next are made: their errors, their order, memory."""

import errno
import itertools
import os
import threading
import types
import weakref

import numpy as np
import pytest

from data import pools, tables
from launch import filter as filter_stage
from launch import generate, stream

SPEC = pools.PoolSpec(("cat", "dog"), (2, 2, 1), np.dtype(np.uint8), "a" * 64, "b" * 64)
RANGES = [(0, 5), (5, 9), (9, 14), (14, 18)]


class Grey:
    """In the place of a generator: image i is as bright as its seed."""

    batch = 2

    def ahead(self, jobs):
        for tag, (seeds, _) in jobs:
            images = np.broadcast_to(seeds[:, None, None, None], (len(seeds), 2, 2, 1))
            yield tag, (images.astype(np.uint8), np.ones(len(seeds), bool))


def write(folder, todo=range(4), done=lambda count: None):
    generate.write_shards(Grey(), folder, SPEC, RANGES, 0, todo, done)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


def test_one_share_is_finished_at_a_time_and_in_order():
    finished, free = [], threading.Lock()

    def finish(number):
        assert free.acquire(blocking=False)
        finished.append(number)
        free.release()

    with stream.behind() as behind:
        for number in range(50):
            behind(finish, number)
            assert len(finished) >= number
    assert finished == list(range(50))


def test_the_next_share_is_made_meanwhile():
    made = threading.Event()
    with stream.behind() as behind:
        behind(lambda: made.wait(30) or pytest.fail("nothing was made while this was finished"))
        made.set()


@pytest.mark.parametrize("full", [0, 1, 3])
def test_a_full_disk_met_while_finishing(tmp_path, monkeypatch, full):
    (tmp_path / "straight").mkdir()
    write(tmp_path / "straight")
    folder, fsync = tmp_path / "pool", tables.fsync
    folder.mkdir()

    def no_space(path):
        if path.name.endswith(f"-{full:05d}-of-00004"):
            assert threading.current_thread() is not threading.main_thread()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        fsync(path)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "fsync", no_space)
        with pytest.raises(OSError, match="No space left on device"):
            write(folder)
    # The shards before are finished; of this and the next, which had been begun, nothing is left.
    assert len(files(folder)) == 3 * full
    assert [pools.is_finished(folder, index) for index in range(4)] == [
        index < full for index in range(4)
    ]
    write(folder, range(full, 4))
    assert files(folder) == files(tmp_path / "straight")


def test_an_error_lets_the_share_before_be_finished(tmp_path):
    batches = itertools.count(1)

    def stop(count):
        del count
        if next(batches) == 4:  # the first of the second share
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, done=stop)
    assert pools.is_finished(tmp_path, 0)
    assert len(files(tmp_path)) == 3


def test_two_shards_are_held_at_most(tmp_path, monkeypatch):
    begin, alive, most = pools.PoolShard.__init__, weakref.WeakSet(), []

    def begun(shard, *args):
        begin(shard, *args)
        alive.add(shard)
        most.append(len([one for one in alive if not one._closed]))

    monkeypatch.setattr(pools.PoolShard, "__init__", begun)
    ranges = [(3 * index, 3 * index + 3) for index in range(20)]
    generate.write_shards(Grey(), tmp_path, SPEC, ranges, 0, range(20))
    assert len(most) == 20
    assert max(most) <= 2


def test_a_share_is_scored_from_memory_that_the_next_does_not_touch(tmp_path):
    images = np.random.default_rng(0).normal(size=(18, 2, 2, 1)).astype(np.float32)
    pool = types.SimpleNamespace(labels=np.arange(18) % 3, read=lambda rows: images[rows])
    seen_by_networks, gone_on, memories = [], threading.Condition(), set()

    def look(params, batch):
        pixels, label = batch
        return {"features": pixels[:, :, 0, 0], "probs": pixels[:, 0, :, 0], "vrn": params * label}

    def done(count):
        with gone_on:
            seen_by_networks.append(count)
            gone_on.notify()

    def judge(seen, labels, first_row):
        """Waits until the networks have seen all of the next share."""
        share = [start for start, _ in RANGES].index(first_row)
        needed = RANGES[min(share + 1, 3)][1]
        with gone_on:
            assert gone_on.wait_for(lambda: sum(seen_by_networks) >= needed, 30)
        memories.add(seen["features"].__array_interface__["data"][0])
        return {"vrn": seen["vrn"]}

    forward = stream.Forward(look, np.float32(2), 3)
    filter_stage.score_shares(forward, judge, pool, tmp_path, RANGES, done)
    for start, stop in RANGES:
        part = tables.map_npz(filter_stage._part(tmp_path, start, stop))
        np.testing.assert_array_equal(part["features"], images[start:stop, :, 0, 0])
        np.testing.assert_array_equal(part["probs"], images[start:stop, 0, :, 0])
        np.testing.assert_array_equal(part["score_vrn"], 2 * pool.labels[start:stop])
    assert len(memories) == 2
