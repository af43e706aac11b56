import io
import json
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data.builders import digits
from data.errors import UserError
from data.fingerprint import fingerprint
from data.sources import Source
from data.sources.entries import Rows
from data.sources.raw import Entry

from .conftest import read_source


def _open(spec: str, tmp_path, size: int = 4, channels: int = 1) -> Source:
    return read_source(spec, data_dir=tmp_path / "tfds", size=size, channels=channels)


# --- npz


def _arrays(**changes):
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(["cat", "dog"])}
    for split, count in (("train", 6), ("val", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count).reshape(-1, 1) % 2
    return {key: value for key, value in (arrays | changes).items() if value is not None}


@pytest.fixture
def npz(tmp_path):
    def save(**changes) -> str:
        np.savez(tmp_path / "x.npz", **_arrays(**changes))
        return f"npz:{tmp_path / 'x.npz'}"

    return save


def test_npz(npz, tmp_path):
    arrays = _arrays()
    source = _open(npz(), tmp_path)
    assert list(source.splits) == ["train", "val"]
    assert source.class_names == ("cat", "dog")
    for split, records in source.splits.items():
        np.testing.assert_array_equal(records.images[..., 0], arrays[f"{split}_images"])
        np.testing.assert_array_equal(records.labels, arrays[f"{split}_labels"][:, 0])
        assert records.groups is None
        assert records.ids[1] == f"{split}-000001"


def test_npz_with_ids_and_patients(npz, tmp_path):
    names = {"train_ids": np.array(list("uvwxyz")), "train_patients": np.array(list("aabbcc"))}
    train = _open(npz(**names), tmp_path).splits["train"]
    assert "".join(train.ids) == "uvwxyz"
    assert "".join(train.groups) == "aabbcc"


def test_npz_without_splits_or_names(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((4, 4, 4, 3), np.uint16), labels=np.array([0, 2, 1, -1]))
    source = _open(f"npz:{path}", tmp_path, channels=3)
    assert list(source.splits) == ["all"]
    assert source.class_names == ("0", "1", "2")
    assert source.splits["all"].dtype == np.uint16


def test_npz_with_a_label_of_no_class(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 2**40]))
    with pytest.raises(UserError, match="has a label 1099511627776; number the classes from 0"):
        _open(f"npz:{path}", tmp_path)


def test_npz_is_resized_and_recoloured_at_its_own_depth(npz, tmp_path):
    train = np.full((6, 9, 5), 40000, np.uint16)
    val = np.full((4, 4, 4), 40000, np.uint16)
    source = _open(npz(train_images=train, val_images=val), tmp_path, channels=3)
    for records in source.splits.values():
        assert records.image_shape == (4, 4, 3)
        np.testing.assert_array_equal(records.images, np.uint16(40000))


def test_npz_with_any_number_of_channels(npz, tmp_path):
    bands = {"train_images": np.zeros((6, 4, 4, 5), np.uint8)}
    bands["val_images"] = bands["train_images"][:4]
    assert _open(npz(**bands), tmp_path, channels=5).splits["val"].image_shape == (4, 4, 5)
    with pytest.raises(UserError, match=r"images of 5 channels.* set it to 5"):
        _open(npz(**bands), tmp_path, channels=3)


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
        _open(spec, tmp_path)
    assert "x.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_or_truncated_npz(npz, tmp_path, truncate):
    with pytest.raises(UserError, match=r"nowhere\.npz is missing"):
        _open(f"npz:{tmp_path / 'nowhere.npz'}", tmp_path)
    spec = npz()
    truncate(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"x\.npz is no whole \.npz file"):
        _open(spec, tmp_path)


def test_npy_is_no_npz(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"x\.npz is no whole \.npz file"):
        _open(f"npz:{tmp_path / 'x.npz'}", tmp_path)


def test_damage_inside_an_npz(npz, tmp_path):
    np.savez_compressed(tmp_path / "x.npz", **_arrays())
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[300:340] = bytes(40)
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz is no whole \.npz file"):
        _open(f"npz:{tmp_path / 'x.npz'}", tmp_path)


def test_chest_xrays(chest_npz, tmp_path):
    source = _open(f"npz:{chest_npz}", tmp_path, size=64)
    assert source.class_names == ("normal", "bacterial_pneumonia", "viral_pneumonia")
    assert [len(source.splits[name]) for name in ("train", "val", "test")] == [1200, 150, 300]
    with np.load(chest_npz) as file:
        np.testing.assert_array_equal(source.splits["val"].images[..., 0], file["val_images"])
        np.testing.assert_array_equal(source.splits["val"].groups, file["val_groups"])
    small = _open(f"npz:{chest_npz}", tmp_path, size=32).splits["val"]
    means = source.splits["val"].images.mean((1, 2, 3)), small.images.mean((1, 2, 3))
    np.testing.assert_allclose(*means, atol=1.5)


# --- folder


@pytest.fixture
def tree(tmp_path, rng):
    """Class folders of 3 images each; returns a function that makes them under a root."""

    def make(root="", dtype=np.uint8, names=("cat", "dog")) -> str:
        for name in names:
            folder = tmp_path / "tree" / root / name
            folder.mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, np.iinfo(dtype).max + 1, (4, 4), dtype=dtype)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        return f"folder:{tmp_path / 'tree'}"

    return make


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_class_folders(tree, tmp_path, dtype):
    spec = tree(dtype=dtype)
    (tmp_path / "tree" / "cat" / "notes.txt").write_text("ignored")
    (tmp_path / "tree" / ".hidden").mkdir()
    source = _open(spec, tmp_path)
    records = source.splits["all"]
    assert source.class_names == ("cat", "dog")
    assert records.ids.tolist() == [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(3)]
    assert records.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for image, name in zip(records.images, records.ids, strict=True):
        with Image.open(tmp_path / "tree" / name) as file:
            np.testing.assert_array_equal(image[..., 0], np.asarray(file))
    assert records.dtype == dtype


def test_split_folders_and_a_list_of_names(tree, tmp_path):
    for split in ("train", "validation", "test"):
        spec = tree(split)
    (tmp_path / "tree" / "train_masks").mkdir()
    (tmp_path / "tree" / "class_names.txt").write_text("dog\ncat\n")
    source = _open(spec, tmp_path, size=8, channels=3)
    assert sorted(source.splits) == ["test", "train", "val"]
    assert source.class_names == ("dog", "cat")
    assert source.splits["val"].ids[0] == "validation/dog/0.png"
    assert source.splits["val"].image_shape == (8, 8, 3)


def test_bad_folders_are_explained(tree, tmp_path, truncate):
    with pytest.raises(UserError, match="is no folder"):
        _open(f"folder:{tmp_path / 'nowhere'}", tmp_path)
    (tmp_path / "tree").mkdir()
    with pytest.raises(UserError, match="has no class folders"):
        _open(f"folder:{tmp_path / 'tree'}", tmp_path)
    spec = tree()
    (tmp_path / "tree" / "cow").mkdir()
    with pytest.raises(UserError, match="class 'cow' is empty"):
        _open(spec, tmp_path)
    (tmp_path / "tree" / "cow").rmdir()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "tree" / "dog" / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png is uint16 but .*0\.png is uint8"):
        _open(spec, tmp_path)
    (tmp_path / "tree" / "dog" / "deep.png").unlink()
    truncate(tmp_path / "tree" / "dog" / "1.png")
    with pytest.raises(UserError, match=r"dog/1\.png is no readable image"):
        _open(spec, tmp_path)


# --- tfds


def test_digits_are_the_real_ones(tmp_path):
    from sklearn.datasets import load_digits

    source = _open("tfds:vrn_digits", tmp_path, size=16)
    records = source.splits["train"]
    assert source.class_names == tuple("0123456789")
    assert len(records) == 1797
    assert records.image_shape == (16, 16, 1)
    assert records.dtype == np.uint8
    original = load_digits()
    index = np.array([int(name.removeprefix("digit-")) for name in records.ids])
    np.testing.assert_array_equal(records.labels, original.target[index])
    # Shrinking each 2x2 block again gives nearly the original levels back.
    small = records.images[..., 0].reshape(-1, 8, 2, 8, 2).mean((2, 4)) * 16 / 255
    levels = original.images[index]
    assert np.corrcoef(small.ravel(), levels.ravel())[0, 1] > 0.97
    assert small.max() > 15
    again = _open("tfds:vrn_digits", tmp_path, size=16)
    assert again.digest() == source.digest()


def test_digits_folder_is_array_record(tmp_path):
    folder = digits.prepare(tmp_path)
    assert json.loads((folder / "dataset_info.json").read_text())["fileFormat"] == "array_record"
    rows = tfds.builder_from_directory(folder).as_data_source("train")
    assert len(rows) == 1797
    assert digits.prepare(tmp_path) == folder


def test_damaged_digits_are_named(tmp_path, truncate):
    folder = digits.prepare(tmp_path / "tfds")
    truncate(next(folder.glob("*.array_record*")))
    with pytest.raises(
        UserError, match=r"tfds:vrn_digits in .* can't be read .*; delete its folder"
    ):
        _open("tfds:vrn_digits", tmp_path)


class OtherScans(tfds.core.GeneratorBasedBuilder):
    """A data set of somebody else's: colour, odd sizes, patients, a split that isn't ours."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="labelled"),
        tfds.core.BuilderConfig(name="bare"),
    ]
    url_infos = None  # nothing to download

    def _info(self):
        features = {
            "scan": tfds.features.Image(shape=(None, None, 3)),
            "kind": tfds.features.ClassLabel(names=["cyst", "tumour"]),
            "patient": tfds.features.Text(),
        }
        if self.builder_config.name == "bare":
            del features["kind"]
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples() for name in ("train", "validation", "spare")}

    def _generate_examples(self):
        for i in range(4):
            file = io.BytesIO()
            Image.fromarray(np.full((5 + i, 6, 3), 50 * i, np.uint8)).save(file, "PNG")
            file.seek(0)
            example = {"scan": file, "kind": i % 2, "patient": f"p{i}"}
            yield i, {name: example[name] for name in self.info.features}


def test_any_tfds_classification_set_opens(tmp_path):
    source = _open("tfds:other_scans/labelled", tmp_path, size=4, channels=1)
    assert sorted(source.splits) == ["train", "val"]
    assert source.class_names == ("cyst", "tumour")
    for split, records in source.splits.items():
        numbers = np.array([int(name[1:]) for name in records.groups])
        assert sorted(numbers) == [0, 1, 2, 3]
        np.testing.assert_array_equal(records.labels, numbers % 2)
        np.testing.assert_array_equal(records.images[:, 2, 2, 0], 50 * numbers)
        assert records.ids[0] == ("train-0" if split == "train" else "validation-0")
    with pytest.raises(
        UserError, match=r"no feature that is a class label \(it has scan, patient\)"
    ):
        _open("tfds:other_scans/bare", tmp_path)


def test_rows_are_made_when_asked_for():
    made = []

    def maker(split):
        def make(row):
            made.append((split, row))
            return Entry("file", f"{split}-{row}", row, split)

        return make

    rows = Rows([(3, maker("train")), (0, maker("none")), (2, maker("test"))])
    assert (len(rows), made) == (5, [])
    assert [entry.name for entry in rows[1:5:2]] == ["train-1", "test-0"]
    assert (rows[-1].name, rows[4:2]) == ("test-1", [])
    assert rows.splits() == ["train", "test"]
    assert [entry.label for entry in rows] == [0, 1, 2, 0, 1]
    with pytest.raises(IndexError):
        rows[5]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:no_such_data_set", "tfds knows no data set of this name"),
        (
            "tfds:",
            "is none of tfds:NAME, .*, video:PATH, dicom:PATH and nifti:PATH",
        ),
        (
            "images",
            "is none of tfds:NAME, .*, video:PATH, dicom:PATH and nifti:PATH",
        ),
        (
            "zip:x",
            "is none of tfds:NAME, .*, video:PATH, dicom:PATH and nifti:PATH",
        ),
    ],
)
def test_unknown_sources(tmp_path, spec, message):
    with pytest.raises(UserError, match=message):
        _open(spec, tmp_path)


def test_tensorflow_is_not_imported(tmp_path):
    script = f"""
import pathlib, sys
from data import loader, pools, sources, splits
folder = {str(tmp_path)!r}
source = sources.open_source(
    "tfds:vrn_digits", data_dir=folder, size=16, channels=1, spool=pathlib.Path(folder, "spool")
)
made = splits.make_splits(source, val_fraction=.2, test_fraction=.2, real_per_class=5, seed=0)
next(loader.make_loader(loader.BatchSource([loader.Part(made.train, 8)], seed=0)))
sys.exit("imported TensorFlow" if "tensorflow" in sys.modules else 0)
"""
    root = digits.pathlib.Path(digits.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


# --- digests


def test_digest_follows_content(npz, tmp_path):
    first = _open(npz(), tmp_path).digest()
    assert _open(npz(), tmp_path).digest() == first
    labels = _arrays()["val_labels"][::-1]
    assert _open(npz(val_labels=labels), tmp_path).digest() != first


def test_fingerprint_follows_files(npz, tree, tmp_path):
    first = fingerprint(npz())
    assert fingerprint(npz()) == first
    assert fingerprint(npz(class_names=None)) != first
    spec = tree()
    before = fingerprint(spec)
    tree(names=("cow",))
    assert fingerprint(spec) != before
    for order in ("cat\ncow\n", "cow\ncat\n"):  # of the same size
        (tmp_path / "names").mkdir(exist_ok=True)
        (tmp_path / "names" / "class_names.txt").write_text(order)
        known = before
        before = fingerprint(f"folder:{tmp_path / 'names'}")
        assert before != known
    assert fingerprint("tfds:a") != fingerprint("tfds:b")
    with pytest.raises(UserError, match="does not exist"):
        fingerprint("npz:/nowhere.npz")
