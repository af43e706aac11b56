import os
import pathlib
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds

from data import pools, shards, tables
from data.errors import UserError
from data.pools import open_pool, parse_sample_id, sample_id
from data.records import from_unit, write_records
from data.sample_ids import SeedSet
from tests.pool_writer import PoolWriter

from .conftest import make_records

DIGEST, DATA_DIGEST = "0123456789abcdef" * 4, "fedcba9876543210" * 4


def _writer(folder: pathlib.Path, **changes) -> PoolWriter:
    settings = {
        "class_names": ["cat", "dog"],
        "image_shape": (4, 4, 1),
        "dtype": np.uint8,
        "checkpoint_digest": DIGEST,
        "data_digest": DATA_DIGEST,
    }
    return PoolWriter(folder, **(settings | changes))


def _write(folder: pathlib.Path, images: np.ndarray, **changes) -> None:
    with _writer(folder, **changes) as writer:
        for start in range(0, len(images), 3):
            rows = np.arange(start, min(start + 3, len(images)))
            writer.write(images[rows], rows % 2, rows + 100)


def test_sample_ids_can_be_taken_apart():
    name = sample_id(DIGEST, 3, 2**32 - 1)
    assert name == "0123456789ab-3-4294967295"
    assert parse_sample_id(name) == ("0123456789ab", 3, 2**32 - 1)
    for wrong in ("0123-1-2", f"{DIGEST}-1-2", "0123456789ab-1", "0123456789ab--1-2"):
        with pytest.raises(ValueError, match="is not a sample id"):
            parse_sample_id(wrong)
    with pytest.raises(ValueError, match="12 hexadecimal characters"):
        sample_id("step-5000", 0, 0)
    for label, seed in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match=f"label {label} and seed {seed}"):
            sample_id(DIGEST, label, seed)


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pool_comes_back_with_its_manifest(tmp_path, rng, dtype, num_shards):
    images = rng.uniform(-1.1, 1.1, (8, 4, 4, 1)).astype(np.float32)
    _write(tmp_path / "pool", images, dtype=dtype, num_shards=num_shards)
    pool = open_pool(tmp_path / "pool")
    assert len(pool) == 8
    assert pool.synthetic
    assert pool.class_names == ("cat", "dog")
    assert (pool.image_shape, pool.dtype) == ((4, 4, 1), np.dtype(dtype))
    seeds = pool.manifest["seed"].to_numpy()
    assert sorted(seeds) == list(range(100, 108))
    raw = pool.read_raw(np.arange(8))
    np.testing.assert_array_equal(raw, from_unit(images[seeds - 100], dtype))
    np.testing.assert_array_equal(pool.labels, (seeds - 100) % 2)
    assert pool.ids.tolist() == [
        sample_id(DIGEST, label, seed) for label, seed in zip(pool.labels, seeds, strict=True)
    ]
    row = pool.manifest.slice(5, 1).to_pylist()[0]
    assert row["class_name"] == pool.class_names[pool.labels[5]]
    assert row["checkpoint_digest"] == DIGEST
    assert row["data_digest"] == DATA_DIGEST
    assert row["synthetic"] is True
    assert pool.subset(np.array([5])).ids[0] == row["sample_id"]


def test_tfds_opens_a_pool(tmp_path, rng):
    _write(tmp_path / "pool", rng.uniform(-1, 1, (6, 4, 4, 1)), num_shards=2)
    builder = tfds.builder_from_directory(tmp_path / "pool")
    rows = list(builder.as_data_source("train"))
    manifest = tables.read_parquet(tmp_path / "pool" / "manifest.parquet")
    assert builder.info.name == "pool"
    assert [row["sample_id"].decode() for row in rows] == manifest["sample_id"].tolist()
    assert [int(row["label"]) for row in rows] == manifest["label"].tolist()
    assert all(row["synthetic"] for row in rows)


def test_exception_leaves_nothing_half_written(tmp_path):
    writer = _writer(tmp_path / "pool")
    writer.write(np.zeros((1, 4, 4, 1)), [0], [1])
    with pytest.raises(RuntimeError), writer:
        raise RuntimeError("out of memory")
    assert list(tmp_path.iterdir()) == []


def test_kill_leaves_no_pool_and_the_next_run_clears_up(tmp_path):
    script = f"""
import os, signal
import numpy as np
from tests.pool_writer import PoolWriter
writer = PoolWriter({str(tmp_path / "pool")!r}, class_names=["cat"], image_shape=(4, 4, 1),
                    dtype=np.uint8, checkpoint_digest={DIGEST!r}, data_digest={DATA_DIGEST!r})
writer.write(np.zeros((3, 4, 4, 1)), [0, 0, 0], [1, 2, 3])
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = pathlib.Path(pools.__file__).parents[1]
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "pool").exists()
    _write(tmp_path / "pool", np.zeros((2, 4, 4, 1)))
    assert [p.name for p in tmp_path.iterdir()] == ["pool"]
    assert len(open_pool(tmp_path / "pool")) == 2


def test_bad_batches_are_refused(tmp_path):
    images = np.zeros((2, 4, 4, 1), np.float32)
    spec = pools.PoolSpec(("cat", "dog"), (4, 4, 1), np.dtype(np.uint8), DIGEST, DATA_DIGEST)
    shard = pools.PoolShard(tmp_path, spec, 0, 1)
    with pytest.raises(ValueError, match="of float32 don't fit"):
        shard.write(images, [0, 1], [1, 2])
    shard.release()
    for arguments, message in [
        ((images[:, :2], [0, 1], [1, 2]), "don't fit a pool"),
        ((images, [0], [1, 2]), "don't fit a pool"),
        ((images, [0, 2], [1, 2]), "label 2"),
        ((images, [0, 0], [1, 1]), "already in the pool"),
    ]:
        with pytest.raises(ValueError, match=message), _writer(tmp_path / "pool") as writer:
            writer.write(*arguments)
    with pytest.raises(UserError, match="empty pool"):
        _writer(tmp_path / "pool").close()
    assert list(tmp_path.iterdir()) == []


def test_damage_is_named(tmp_path, truncate):
    folder = tmp_path / "pool"
    _write(folder, np.zeros((6, 4, 4, 1)), num_shards=2)
    manifest = folder / "manifest.parquet"
    kept = manifest.read_bytes()
    other = tables.read_parquet(manifest)
    other["label"] = 1 - other["label"]
    tables.write_parquet(manifest, other)
    with pytest.raises(UserError, match="does not describe the images beside it"):
        open_pool(folder)
    manifest.unlink()
    with pytest.raises(UserError, match=r"manifest\.parquet is missing"):
        open_pool(folder)
    manifest.write_bytes(kept)
    shard = folder / "pool-train.array_record-00001-of-00002"
    truncate(shard)
    with pytest.raises(UserError, match=f"{shard.name} is damaged or truncated"):
        open_pool(folder)


def test_real_images_are_no_pool(tmp_path):
    records = make_records()
    write_records(tmp_path / "d", {"train": records})
    tables.write_parquet(
        tmp_path / "d" / "manifest.parquet", {"sample_id": records.ids, "label": records.labels}
    )
    with pytest.raises(UserError, match="holds real images, not a pool"):
        open_pool(tmp_path / "d")


def test_records_are_what_tfds_makes_of_them(rng):
    image = rng.integers(0, 2**16, (4, 3, 2)).astype(np.uint16)
    features = shards.make_features((4, 3, 2), np.dtype(np.uint16), ["cat", "dog"])
    record = {"image": image, "label": -1, "sample_id": "a", "group": "p7", "synthetic": True}
    encoded = shards.encode(*record.values())
    assert encoded == shards.encode(*record.values())
    decoded = features.deserialize_example_np(encoded)
    np.testing.assert_array_equal(decoded.pop("image"), image)
    assert decoded == {"label": -1, "sample_id": b"a", "group": b"p7", "synthetic": True}


def test_seeds_in_a_row_are_one_run_and_no_seed_comes_twice():
    seen = SeedSet()
    for start in (6, 0, 3, 12):
        seen.add(start + np.array([2, 0, 1]))
    assert seen.runs == [[0, 8], [12, 14]]
    other = SeedSet([[9, 11]])
    seen.merge(other.runs)
    assert seen.runs == [[0, 14]]
    for again in ([14], [20, 0], [30, 31, 30]):
        with pytest.raises(ValueError, match="already in the pool"):
            seen.add(np.array(again))


def test_an_image_in_two_shards_is_refused(tmp_path):
    images = np.zeros((1, 4, 4, 1))
    writer = _writer(tmp_path / "pool", num_shards=2)
    writer.write(images, [0], [1])
    writer.write(images, [0], [1])
    with pytest.raises(ValueError, match="seed 1 is already in the pool"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hold", [True, False])
def test_subsets_of_subsets_read_the_same_images(tmp_path, rng, hold):
    images = rng.uniform(-1, 1, (9, 4, 4, 1)).astype(np.float32)
    _write(tmp_path / "pool", images, dtype=np.float32)
    part = open_pool(tmp_path / "pool", hold=hold).subset(np.arange(9) > 2).subset([4, 0])
    np.testing.assert_array_equal(part.read(np.array([1, 0])), images[[3, 7]])
    np.testing.assert_array_equal(part.seeds, [107, 103])
    assert part.ids.tolist() == part.ids_at(np.arange(2)).to_pylist()
    assert part.ids[0] == sample_id(DIGEST, 1, 107)
    part.hold()
    np.testing.assert_array_equal(part.read(np.array([1, 0])), images[[3, 7]])
    np.testing.assert_array_equal(part.subset([1]).read(np.array([0])), images[[3]])


def test_sample_ids_are_found_in_any_order(tmp_path):
    _write(tmp_path / "pool", np.zeros((9, 4, 4, 1)), num_shards=2)
    pool = open_pool(tmp_path / "pool").subset([4, 0, 7, 8])
    wrong = [sample_id(DIGEST, 0, seed) for seed in (1, 101, 999)]  # the second has label 1
    ids = [*pool.ids[[2, 0, 3]].tolist(), *wrong, "f" * 12 + pool.ids[1][12:], "r7"]
    np.testing.assert_array_equal(pool.finder()(pa.array(ids)), [2, 0, 3, -1, -1, -1, -1, -1])


def test_memory_of_a_writer_does_not_grow_with_the_pool(tmp_path):
    """Between 40,000 and 200,000 images at most a few bytes each may stay."""
    images, size = np.zeros((4000, 1, 1, 1), np.float32), []
    with _writer(tmp_path / "pool", image_shape=(1, 1, 1)) as writer:
        tracemalloc.start()
        for number in range(50):
            rows = number * 4000 + np.arange(4000)
            writer.write(images, rows % 2, rows)
            if number in (9, 49):
                size.append(tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes())
        tracemalloc.stop()
    assert size[1] - size[0] < 4 * 160_000
