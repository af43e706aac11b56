import contextlib
import json
import zipfile

import numpy as np
import pytest

from data import tables
from data.errors import UserError


def test_parquet_keeps_types_and_values(tmp_path):
    columns = {
        "sample_id": ["a", "bcd", ""],
        "label": np.array([3, -1, 2**40]),
        "score": np.array([0.25, np.nan, -1], np.float32),
        "kept": np.array([True, False, True]),
    }
    tables.write_parquet(tmp_path / "t.parquet", columns)
    read = tables.read_parquet(tmp_path / "t.parquet")
    assert list(read) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(read[name], np.asarray(column))
        assert read[name].dtype.kind == np.asarray(column).dtype.kind


def test_parquet_reading_says_what_is_wrong(tmp_path, truncate):
    path = tmp_path / "t.parquet"
    with pytest.raises(UserError, match=r"t\.parquet is missing"):
        tables.read_parquet(path)
    tables.write_parquet(path, {"a": np.arange(100)})
    truncate(path)
    with pytest.raises(UserError, match=r"t\.parquet is damaged"):
        tables.read_parquet(path)


def test_json_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.json"
    tables.write_json(path, {"x": [1, 2]})
    with pytest.raises(ValueError, match="JSON compliant"):
        tables.write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == tables.read_json(path) == {"x": [1, 2]}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_damaged_json_is_a_user_error(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match="is missing"):
        tables.read_json(path)
    path.write_text('{"x": ')
    with pytest.raises(UserError, match=r"a\.json is damaged"):
        tables.read_json(path)


def test_npz_is_written_aside(tmp_path):
    tables.write_npz(tmp_path / "a.npz", x=np.arange(3), y=np.ones((2, 2)))
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["x"], [0, 1, 2])
        np.testing.assert_array_equal(file["y"], np.ones((2, 2)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_npz_joined_from_files_is_mapped_not_read(tmp_path, truncate):
    parts = [np.arange(n * 3, dtype=np.float32).reshape(n, 3) + n for n in (4, 1, 0, 2)]
    paths = [tmp_path / f"{i}.npz" for i in range(4)]
    for path, part in zip(paths, parts, strict=True):
        tables.write_npz(path, x=part, other=np.arange(5))
    whole = tmp_path / "whole.npz"
    tables.write_npz(whole, x=tables.Joined(paths, "x"), names=np.array(["a", "bc"]))
    found = tables.map_npz(whole)
    assert isinstance(found["x"], np.memmap)
    np.testing.assert_array_equal(found["x"], np.concatenate(parts))
    np.testing.assert_array_equal(found["names"], ["a", "bc"])
    with np.load(whole) as file:
        np.testing.assert_array_equal(file["x"], np.concatenate(parts))
    np.savez_compressed(tmp_path / "packed.npz", x=parts[0])
    with pytest.raises(ValueError, match="was not written by this project"):
        tables.map_npz(tmp_path / "packed.npz")
    truncate(whole)
    with pytest.raises(zipfile.BadZipFile):
        tables.map_npz(whole)


def test_a_resumable_folder_outlives_what_stops_it(tmp_path):
    target = tmp_path / "pool"

    def stop(key: str, content: str | None) -> list[str]:
        with contextlib.suppress(RuntimeError), tables.resumable_dir(target, key) as aside:
            found = [p.name for p in aside.iterdir() if p.name != ".key"]
            if content:
                (aside / content).write_text("new")
            raise RuntimeError("stop")
        assert not target.exists()
        return found

    assert stop("one", None) == []
    assert list(tmp_path.iterdir()) == []  # nothing to keep
    assert stop("one", "a") == []
    assert stop("one", "b") == ["a"]
    assert stop("two", "c") == []  # of another key: begun afresh
    with tables.resumable_dir(target, "two") as aside:
        assert aside == tables.unfinished(target)
        (aside / ".key").unlink()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["pool", "pool/c"]


def _fill_and_fail(writer, name):
    with writer as aside:
        (aside / name).write_text("new") if aside.is_dir() else aside.write_text("new")
        raise RuntimeError("stop")


def test_failed_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "pool"
    with pytest.raises(RuntimeError):
        _fill_and_fail(tables.atomic_dir(folder), "x")
    assert list(tmp_path.iterdir()) == []
    with tables.atomic_dir(folder) as aside:
        (aside / "old").write_text("old")
    with pytest.raises(RuntimeError):
        _fill_and_fail(tables.atomic_dir(folder), "x")
    assert [p.name for p in tmp_path.rglob("*")] == ["pool", "old"]
    with tables.atomic_dir(folder) as aside:
        (aside / "new").write_text("new")
    assert [p.name for p in tmp_path.rglob("*")] == ["pool", "new"]


def test_leftovers_of_a_killed_run_are_swept_away(tmp_path):
    stale = tmp_path / ".pool.partial"
    stale.mkdir()
    (stale / "half").write_text("half")
    with tables.atomic_dir(tmp_path / "pool") as aside:
        assert list(aside.iterdir()) == []
        (aside / "whole").write_text("whole")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["pool", "whole"]


def test_failed_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        _fill_and_fail(tables.atomic_file(path), "")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
