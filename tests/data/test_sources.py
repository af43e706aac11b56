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
from data.sources.entries import Rows
from data.sources.raw import Entry

from .conftest import open_small

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
    source = open_small(spec, tmp_path)
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
    source = open_small(spec, tmp_path, size=8, channels=3)
    assert sorted(source.splits) == ["test", "train", "val"]
    assert source.class_names == ("dog", "cat")
    assert source.splits["val"].ids[0] == "validation/dog/0.png"
    assert source.splits["val"].image_shape == (8, 8, 3)


def test_bad_folders_are_explained(tree, tmp_path, truncate):
    with pytest.raises(UserError, match="is no folder"):
        open_small(f"folder:{tmp_path / 'nowhere'}", tmp_path)
    (tmp_path / "tree").mkdir()
    with pytest.raises(UserError, match="has no class folders"):
        open_small(f"folder:{tmp_path / 'tree'}", tmp_path)
    spec = tree()
    (tmp_path / "tree" / "cow").mkdir()
    with pytest.raises(UserError, match="class 'cow' is empty"):
        open_small(spec, tmp_path)
    (tmp_path / "tree" / "cow").rmdir()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "tree" / "dog" / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png is uint16 but .*0\.png is uint8"):
        open_small(spec, tmp_path)
    (tmp_path / "tree" / "dog" / "deep.png").unlink()
    truncate(tmp_path / "tree" / "dog" / "1.png")
    with pytest.raises(UserError, match=r"dog/1\.png is no readable image"):
        open_small(spec, tmp_path)


# --- tfds


def test_digits_are_the_real_ones(tmp_path):
    from sklearn.datasets import load_digits

    source = open_small("tfds:vrn_digits", tmp_path, size=16)
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
    again = open_small("tfds:vrn_digits", tmp_path, size=16)
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
        open_small("tfds:vrn_digits", tmp_path)


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
    source = open_small("tfds:other_scans/labelled", tmp_path, size=4, channels=1)
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
        open_small("tfds:other_scans/bare", tmp_path)


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
        open_small(spec, tmp_path)


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
