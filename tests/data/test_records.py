import numpy as np
import pytest
import tensorflow_datasets as tfds

from data import records
from data.errors import UserError
from data.records import ArrayRecords, from_unit, open_records, to_unit, write_records

from .conftest import make_records


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_quantisation_is_an_exact_inverse(dtype):
    raw = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    unit = to_unit(raw)
    assert unit.dtype == np.float32
    assert unit[0] == -1
    assert unit[-1] == 1
    np.testing.assert_array_equal(from_unit(unit, dtype), raw)
    exact = raw.astype(np.float64) / np.iinfo(dtype).max * 2 - 1
    np.testing.assert_allclose(unit, exact, rtol=0, atol=1.3e-7)


def test_float_images_pass_through():
    x = np.linspace(-1, 1, 9, dtype=np.float32)
    np.testing.assert_array_equal(to_unit(x), x)
    np.testing.assert_array_equal(from_unit(x * 2, np.float32), np.clip(x * 2, -1, 1))


def test_from_unit_clips_and_rounds_half_to_even():
    # 0 is the one half-way case that floats hit exactly: 127.5 and 32767.5 go to the even side.
    x = np.array([-7, -1, -1 + 1.4 / 127.5, 0, 1 - 0.4 / 127.5, 1, 7])
    np.testing.assert_array_equal(from_unit(x, np.uint8), [0, 0, 1, 128, 255, 255, 255])
    np.testing.assert_array_equal(from_unit(x, np.uint16)[[0, 1, 3, -1]], [0, 0, 32768, 65535])


@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.bool_])
def test_other_dtypes_have_no_range(dtype):
    with pytest.raises(ValueError, match="no defined range"):
        to_unit(np.zeros(3, dtype))
    with pytest.raises(ValueError, match="no defined range"):
        from_unit(np.zeros(3), dtype)


def test_nan_is_never_stored():
    with pytest.raises(ValueError, match="NaN"):
        from_unit(np.array([0, np.nan]), np.uint8)


def _arguments(**changes):
    arguments = {
        "images": np.zeros((3, 4, 4, 1), np.uint8),
        "labels": np.array([0, 1, -1]),
        "ids": ["a", "b", "c"],
        "class_names": ["cat", "dog"],
    }
    return arguments | changes


_NAN = np.zeros((3, 4, 4, 1), np.float32)
_NAN[1, 2, 3] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((3, 4, 4), np.uint8)}, r"must be \[N, H, W, C\]"),
        ({"images": np.zeros((3, 4, 4, 1), np.int64)}, "int64; store them as uint8"),
        ({"images": _NAN}, "image 'b' holds NaN"),
        ({"images": np.full((3, 4, 4, 1), 200, np.float32)}, r"scale them to \[-1, 1\]"),
        ({"labels": np.array([0, 1])}, "3 images but labels of shape"),
        ({"labels": np.array([0, 2, 1])}, "image 'b' has label 2, out of range for 2 classes"),
        ({"labels": np.array([0, 1, -2])}, "image 'c' has label -2"),
        ({"labels": np.array([0.0, 1, 1])}, "labels of type float64"),
        ({"ids": ["a", "b", "a"]}, "the id 'a' occurs 2 times"),
        ({"groups": ["p"]}, "groups of shape"),
        ({"class_names": []}, "class names"),
        ({"class_names": ["cat", "cat"]}, "its own name"),
    ],
)
def test_bad_arrays_are_refused_in_one_sentence(changes, message):
    with pytest.raises(UserError, match=message) as error:
        ArrayRecords(**_arguments(**changes), where="x.npz (train)")
    assert str(error.value).startswith("x.npz (train)")
    assert "\n" not in str(error.value)


def test_subset_keeps_rows_together():
    few = make_records(groups=[f"p{i // 2}" for i in range(15)])
    for chosen in (np.array([14, 0, 7]), np.isin(np.arange(15), [0, 7, 14])):
        part = few.subset(chosen)
        order = np.arange(15)[chosen]
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], order)
        np.testing.assert_array_equal(part.labels, few.labels[order])
        assert part.ids.tolist() == [f"r{i}" for i in order]
        assert part.groups.tolist() == [f"p{i // 2}" for i in order]
        assert len(part) == 3
        assert part.image_shape == (2, 2, 1)
        assert part.dtype == np.uint16


def test_digest_depends_on_everything_and_nothing_else(few):
    same = make_records()
    assert few.digest() == same.digest()
    changes = {
        "pixel": lambda r: r.images.__setitem__((0, 0, 0, 0), 9),
        "label": lambda r: r.labels.__setitem__(0, 1),
        "id": lambda r: r.ids.__setitem__(0, "z"),
        "class": lambda r: setattr(r, "class_names", ("a", "b", "c")),
        "groups": lambda r: setattr(r, "groups", r.ids),
    }
    digests = {few.digest()}
    for change in changes.values():
        other = make_records()
        change(other)
        digests.add(other.digest())
    digests.add(few.subset(np.arange(14)).digest())
    assert len(digests) == len(changes) + 2


@pytest.fixture
def written(tmp_path):
    sets = {"train": make_records(groups=["", *"abcdefghijklmn"]), "val": make_records(prefix="v")}
    write_records(tmp_path / "data", sets, name="small", num_shards=2)
    return tmp_path / "data", sets


@pytest.mark.parametrize("in_memory", [True, False])
def test_stored_records_come_back(written, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(records, "IN_MEMORY_BYTES", 0)
    folder, sets = written
    for split, given in sets.items():
        stored = open_records(folder, split)
        assert isinstance(stored, ArrayRecords) == in_memory
        order = np.array([stored.ids.tolist().index(name) for name in given.ids])
        for found in (stored.subset(order), stored.subset(np.arange(15)[::-1]).subset(14 - order)):
            assert found.digest() == given.digest()
            np.testing.assert_array_equal(
                found.read(np.array([4, 1])), given.read(np.array([4, 1]))
            )
            assert (found.groups is None) == (given.groups is None)
            assert not found.synthetic


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tfds_opens_the_folder(tmp_path, rng, dtype):
    images = from_unit(rng.uniform(-1, 1, (5, 3, 4, 2)), dtype)
    given = ArrayRecords(images, [0, 1, -1, 0, 1], list("abcde"), ["cat", "dog"])
    write_records(tmp_path / "data", {"train": given}, name="pets", description="Two kinds.")
    builder = tfds.builder_from_directory(tmp_path / "data")
    assert builder.info.name == "pets"
    assert builder.info.description == "Two kinds."
    assert builder.info.file_format.value == "array_record"
    assert builder.info.features["label"].names == ["cat", "dog"]
    rows = list(builder.as_data_source("train"))
    np.testing.assert_array_equal([row["image"] for row in rows], images)
    assert [row["label"] for row in rows] == [0, 1, -1, 0, 1]
    assert b"".join(row["sample_id"] for row in rows) == b"abcde"


@pytest.mark.parametrize("split", ["val", "test"])
def test_synthetic_images_are_refused_where_one_measures(tmp_path, split):
    with pytest.raises(UserError, match="would hold synthetic images"):
        write_records(
            tmp_path / "d", {"train": make_records(), split: make_records(synthetic=True)}
        )
    assert list(tmp_path.iterdir()) == []


def test_synthetic_training_images_keep_their_mark(tmp_path):
    write_records(tmp_path / "d", {"train": make_records(synthetic=True)})
    assert open_records(tmp_path / "d", "train").synthetic


def test_splits_must_fit_together(tmp_path, few):
    with pytest.raises(UserError, match="'val' split would be empty"):
        write_records(tmp_path / "d", {"train": few, "val": few.subset(np.array([], int))})
    with pytest.raises(UserError, match="class_names"):
        write_records(tmp_path / "d", {"train": few, "val": make_records((2, 2))})
    assert list(tmp_path.iterdir()) == []


def test_failure_while_writing_leaves_nothing(tmp_path, few):
    class Broken(ArrayRecords):
        def read_raw(self, indices):
            raise RuntimeError("the disk is gone")

    broken = Broken(few.images, few.labels, few.ids, few.class_names)
    with pytest.raises(RuntimeError, match="disk"):
        write_records(tmp_path / "d", {"train": few, "val": broken})
    assert list(tmp_path.iterdir()) == []


def test_damage_is_named(written, truncate):
    folder, _ = written
    with pytest.raises(UserError, match="no split 'test', only train, val"):
        open_records(folder, "test")
    shard = folder / "small-train.array_record-00001-of-00002"
    whole = shard.read_bytes()
    truncate(shard)
    with pytest.raises(UserError, match=f"{shard.name} is damaged or truncated"):
        open_records(folder, "train")
    open_records(folder, "val")  # the other split is whole
    shard.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(UserError, match=f"{shard.name} is damaged or truncated"):
        open_records(folder, "train")
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} is missing"):
        open_records(folder, "train")


def test_counts_that_disagree_are_named(written):
    folder, _ = written
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"8"', '"6"'))
    with pytest.raises(UserError, match=r"holds 8 records but dataset_info\.json says 6"):
        open_records(folder, "train")


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "digests.json"])
def test_damaged_metadata_is_named(written, file):
    folder, _ = written
    (folder / file).write_text('{"features')
    with pytest.raises(UserError, match=file):
        open_records(folder, "train")


def test_missing_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"nowhere holds no stored images"):
        open_records(tmp_path / "nowhere", "train")
