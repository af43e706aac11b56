"""Labelled images in .npz files."""

import numpy as np
import pytest

from data.errors import UserError

from .conftest import npz_arrays, open_small


def test_npz(npz, tmp_path):
    arrays = npz_arrays()
    source = open_small(npz(), tmp_path)
    assert list(source.splits) == ["train", "val"]
    assert source.class_names == ("cat", "dog")
    for split, records in source.splits.items():
        np.testing.assert_array_equal(records.images[..., 0], arrays[f"{split}_images"])
        np.testing.assert_array_equal(records.labels, arrays[f"{split}_labels"][:, 0])
        assert records.groups is None
        assert records.ids[1] == f"{split}-000001"


def test_npz_with_ids_and_patients(npz, tmp_path):
    names = {"train_ids": np.array(list("uvwxyz")), "train_patients": np.array(list("aabbcc"))}
    train = open_small(npz(**names), tmp_path).splits["train"]
    assert "".join(train.ids) == "uvwxyz"
    assert "".join(train.groups) == "aabbcc"


def test_npz_without_splits_or_names(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((4, 4, 4, 3), np.uint16), labels=np.array([0, 2, 1, -1]))
    source = open_small(f"npz:{path}", tmp_path, channels=3)
    assert list(source.splits) == ["all"]
    assert source.class_names == ("0", "1", "2")
    assert source.splits["all"].dtype == np.uint16


def test_npz_with_a_label_of_no_class(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 2**40]))
    with pytest.raises(UserError, match="has a label 1099511627776; number the classes from 0"):
        open_small(f"npz:{path}", tmp_path)


def test_npz_is_resized_and_recoloured_at_its_own_depth(npz, tmp_path):
    train = np.full((6, 9, 5), 40000, np.uint16)
    val = np.full((4, 4, 4), 40000, np.uint16)
    source = open_small(npz(train_images=train, val_images=val), tmp_path, channels=3)
    for records in source.splits.values():
        assert records.image_shape == (4, 4, 3)
        np.testing.assert_array_equal(records.images, np.uint16(40000))


def test_npz_with_any_number_of_channels(npz, tmp_path):
    bands = {"train_images": np.zeros((6, 4, 4, 5), np.uint8)}
    bands["val_images"] = bands["train_images"][:4]
    assert open_small(npz(**bands), tmp_path, channels=5).splits["val"].image_shape == (4, 4, 5)
    with pytest.raises(UserError, match=r"images of 5 channels.* set it to 5"):
        open_small(npz(**bands), tmp_path, channels=3)


_NAN = np.zeros((6, 4, 4), np.float32)
_NAN[2, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None, "val_images": None}, "has no train_images"),
        ({"val_labels": None}, "has val_images but no val_labels"),
        ({"val_labels": np.arange(4) + 1}, "image 'val-000001' has label 2, out of range"),
        ({"val_labels": np.zeros((4, 2), int)}, r"labels of shape \(4, 2\)"),
        ({"val_labels": np.zeros(4)}, "val_labels are 4 values of type float64"),
        ({"val_labels": np.zeros(4, int)}, "class 'dog' has no images in split 'val'"),
        ({"class_names": np.array(["cat", "dog", "cow"])}, "class 'cow' has no images"),
        ({"train_images": np.zeros((6, 4), np.uint8)}, "train_images has shape"),
        ({"train_images": np.zeros((5, 4, 4), np.uint8)}, "5 images but labels of shape"),
        ({"train_images": np.zeros((6, 4, 4), np.int64)}, "int64; store them as uint8"),
        ({"train_images": np.zeros((6, 4, 4), np.uint16)}, "mixes bit depths"),
        ({"train_images": _NAN}, "image 'train-000002' holds NaN"),
        ({"train_images": _NAN[:2] + 9, "train_labels": np.arange(2)}, "scale them"),
        ({"train_ids": np.array(list("abcdea"))}, "the id 'a' occurs 2 times"),
        ({"class_names": np.array(["cat", None])}, "is no whole .npz file of plain arrays"),
        ({"train_images": np.zeros((2**32 - 1, 1, 0), np.uint8)}, "train_images has shape"),
    ],
)
def test_bad_npz_is_explained(npz, tmp_path, changes, message):
    if changes.get("train_images") is _NAN:
        changes = changes | {"val_images": np.zeros((4, 4, 4), np.float32)}
    spec = npz(**changes)
    with pytest.raises(UserError, match=message) as error:
        open_small(spec, tmp_path)
    assert "x.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_or_truncated_npz(npz, tmp_path, truncate):
    with pytest.raises(UserError, match=r"nowhere\.npz is missing"):
        open_small(f"npz:{tmp_path / 'nowhere.npz'}", tmp_path)
    spec = npz()
    truncate(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"x\.npz is no whole \.npz file"):
        open_small(spec, tmp_path)


def test_npy_is_no_npz(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"x\.npz is no whole \.npz file"):
        open_small(f"npz:{tmp_path / 'x.npz'}", tmp_path)


def test_damage_inside_an_npz(npz, tmp_path):
    np.savez_compressed(tmp_path / "x.npz", **npz_arrays())
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[300:340] = bytes(40)
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz is no whole \.npz file"):
        open_small(f"npz:{tmp_path / 'x.npz'}", tmp_path)


def test_chest_xrays(chest_npz, tmp_path):
    source = open_small(f"npz:{chest_npz}", tmp_path, size=64)
    assert source.class_names == ("normal", "bacterial_pneumonia", "viral_pneumonia")
    assert [len(source.splits[name]) for name in ("train", "val", "test")] == [1200, 150, 300]
    with np.load(chest_npz) as file:
        np.testing.assert_array_equal(source.splits["val"].images[..., 0], file["val_images"])
        np.testing.assert_array_equal(source.splits["val"].groups, file["val_groups"])
    small = open_small(f"npz:{chest_npz}", tmp_path, size=32).splits["val"]
    means = source.splits["val"].images.mean((1, 2, 3)), small.images.mean((1, 2, 3))
    np.testing.assert_allclose(*means, atol=1.5)


def test_digest_follows_content(npz, tmp_path):
    first = open_small(npz(), tmp_path).digest()
    assert open_small(npz(), tmp_path).digest() == first
    labels = npz_arrays()["val_labels"][::-1]
    assert open_small(npz(val_labels=labels), tmp_path).digest() != first
