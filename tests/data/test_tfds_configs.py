"""The configurations of tfds sets: small sets stored by tfds' own writer, and tfds' mock data."""

import contextlib
import dataclasses
import functools
import importlib
import json
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data.errors import UserError
from data.splits import make_splits
from gan.translation import apply
from launch import models, prepare, train_translator, validate
from tests import tiny
from tests.data.conftest import read_source

SETS = {
    "colorectal_histology": (("train",), 8), "malaria": (("train",), 2),
    "patch_camelyon": (("test", "train", "val"), 2),
}  # fmt: skip
_EACH = 64


def _prepare(name: str, data_dir) -> dict[int, np.ndarray]:
    """Stores a small set as tfds would after a download; returns one image per label."""
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record", try_gcs=False)
    pathlib.Path(builder.data_dir).mkdir(parents=True)
    rng, shown = np.random.default_rng(0), {}
    writer = tfds.core.SequentialWriter(builder.info, 1000, file_format="array_record")
    splits = [split for split in ("train", "validation", "test") if _has(name, split)]
    writer.initialize_splits(splits)
    for split in splits:
        rows = []
        for i in range(_EACH):
            shape = builder.info.features["image"].shape
            shape = [side or int(rng.integers(60, 160)) for side in shape]
            row = {"image": rng.integers(0, 256, shape, dtype=np.uint8)}
            if "label" in builder.info.features:
                row["label"] = i % builder.info.features["label"].num_classes
                shown.setdefault(row["label"], row["image"])
            for key in builder.info.features.keys() - row.keys():
                row[key] = _drawn(builder.info.features[key], f"{split}{i}", rng)
            rows.append(row)
        writer.add_examples({split: rows})
    writer.close_all()
    return shown


def _drawn(feature, text: str, rng: np.random.Generator):
    """A value of any other feature: numbers by chance in those that have parts."""
    if isinstance(feature, tfds.features.FeaturesDict):
        return {key: rng.integers(0, 2).astype(feature[key].np_dtype) for key in feature}
    return text


@contextlib.contextmanager
def _mocked(name: str, data_dir: pathlib.Path):
    """tfds gives rows that it makes up, by what `_prepare` stored of the set's features."""
    for shard in data_dir.rglob("*array_record*"):
        shard.unlink()
    (metadata,) = (path.parent for path in data_dir.rglob("dataset_info.json"))
    # mock_data sends `tfds.builder` to a folder below the one it is given, and
    # `tfds.builder_from_directory`, by which rows are read, to that one itself.
    (metadata / name).mkdir()
    (metadata / name / metadata.name).symlink_to(metadata)
    policy = tfds.testing.MockPolicy.USE_FILES
    with tfds.testing.mock_data(num_examples=_EACH, policy=policy, data_dir=str(metadata)):
        yield


def _has(name: str, split: str) -> bool:
    return name in ("patch_camelyon", "celeb_a") or split == "train"


@pytest.mark.parametrize("name", SETS)
def test_a_configuration_reads_its_set(tmp_path, name, monkeypatch):
    splits, classes = SETS[name]
    shown = _prepare(name, tmp_path)

    def no_download(*_args, **_kwargs):
        raise AssertionError("tried to download")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", no_download)
    config = importlib.import_module(f"configs.{name}").get_config()
    validate.check(config)
    data = config.data
    source = read_source(data.source, data_dir=tmp_path, size=data.size, channels=data.channels)
    assert tuple(sorted(source.splits)) == splits
    assert len(source.class_names) == classes
    train = source.splits["train"]
    assert train.image_shape == (64, 64, 3)
    assert train.dtype == np.uint8
    first = train.read_raw(np.array([0]))[0].astype(float)
    assert abs(first.mean() - shown[int(train.labels[0])].mean()) < 1  # resized, not cut
    made = make_splits(
        source, val_fraction=data.val_fraction, test_fraction=data.test_fraction,
        real_per_class=2, seed=data.seed,
    )  # fmt: skip
    assert np.bincount(made.train.labels).tolist() == [2] * classes
    assert len(made.val) > 0
    with pytest.raises(UserError, match="ask for at most"):
        make_splits(source, val_fraction=0.2, test_fraction=0.2, real_per_class=999, seed=0)


@pytest.mark.parametrize("mocked", [False, True], ids=["stored", "mock"])
def test_the_class_of_a_face_is_its_attributes(tmp_path, mocked):
    _prepare("celeb_a", tmp_path)
    config = importlib.import_module("configs.celeba").get_config()
    validate.check(config)
    data = config.data
    options = prepare.source_options(data)
    read = functools.partial(
        read_source, data.source, size=data.size, channels=data.channels, options=options
    )
    if mocked:
        with _mocked("celeb_a", tmp_path):
            source = read(data_dir="")
            expected = tfds.builder("celeb_a").as_data_source("train")
    else:
        source = read(data_dir=tmp_path)
        expected = tfds.builder("celeb_a", data_dir=tmp_path).as_data_source("train")
    assert tuple(sorted(source.splits)) == ("test", "train", "val")
    train = source.splits["train"]
    assert train.image_shape == (128, 128, 3)
    assert len(train.class_names) == 32
    domains = models.domains(config.translator, train.class_names)
    assert len(set(train.labels.tolist())) > 8
    for i in range(_EACH):
        row = expected[i]
        has = [name for name in data.attributes if row["attributes"][name]]
        assert train.class_names[train.labels[i]] == ("+".join(has) or "none")
        code = domains.codes[train.labels[i]]
        assert code == tuple(int(row["attributes"][name]) for name in data.attributes)
    # The middle of 218 rows and all 178 columns.
    middle = expected[0]["image"][20:198].astype(float)
    assert abs(train.read_raw(np.array([0]))[0].astype(float).mean() - middle.mean()) < 1
    wrong = dataclasses.replace(options, attributes=("Bald_Hair",))
    with pytest.raises(UserError, match="has no attribute 'Bald_Hair'"):
        read(data_dir=tmp_path, options=wrong)
    with pytest.raises(UserError, match=r"does not go with .*folder:"):
        read_source(f"folder:{tmp_path}", data_dir="", size=64, channels=3, options=options)


def test_attributes_of_faces_are_translated(tmp_path):
    _prepare("celeb_a", tmp_path)
    config = importlib.import_module("configs.celeba").get_config()
    config.update(data={"data_dir": str(tmp_path), "size": 16}, tensorboard=False)
    config.translator = tiny.get_config().translator
    config.translator.update(domains="attributes", n_critic=1, steps=2, sample_every=2)
    prepare.run(config, tmp_path / "run", False)
    folder = train_translator.run(config, tmp_path / "run", False)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    spec, state = train_translator.restore(config, tmp_path / "run")
    # Colours and a plane for each of five attributes; a logit for each.
    assert state.g_params["from_image"]["kernel"].shape[2] == 3 + 5
    assert state.d_params["domain"]["kernel"].shape[1] == 5
    # The first eight faces: as they are, in their own domain, with each attribute changed, a map.
    (sheet,) = (folder / "samples").glob("*.png")
    picture = np.asarray(Image.open(sheet)).astype(float)
    assert picture.shape == (8 * 17 - 1, 8 * 17 - 1, 3)
    val = prepare.open_split(tmp_path / "run", "val")
    faces = val.read(np.arange(8))
    codes = np.array([[int(bit) for bit in f"{label:05b}"[::-1]] for label in val.labels[:8]])
    codes[:, 3] = 1 - codes[:, 3]  # Male
    changed = apply.translate(spec.translator, state.ema_params, faces, codes)
    for row, pair in enumerate(zip(faces, changed, strict=True)):
        for column, face in zip((0, 5), pair, strict=True):
            there = picture[17 * row :, 17 * column :][:16, :16]
            np.testing.assert_allclose(there, (face + 1) * 127.5, atol=0.51)


@pytest.mark.parametrize("name", SETS)
def test_a_configuration_reads_tfds_mock_data(tmp_path, name):
    """Rows that tfds makes up from the features of the set, without any files of them."""
    splits, classes = SETS[name]
    _prepare(name, tmp_path)
    data = importlib.import_module(f"configs.{name}").get_config().data
    with _mocked(name, tmp_path):
        source = read_source(data.source, data_dir="", size=data.size, channels=data.channels)
        expected = tfds.builder(name).as_data_source("train")
    assert tuple(sorted(source.splits)) == splits
    assert len(source.class_names) == classes
    train = source.splits["train"]
    assert train.image_shape == (64, 64, 3)
    labels = [row["label"] for row in (expected[i] for i in range(_EACH))]
    np.testing.assert_array_equal(train.labels, labels)
    drawn = {"val_fraction": data.val_fraction, "test_fraction": data.test_fraction, "seed": 0}
    if splits == ("train",):
        made = make_splits(source, **drawn, real_per_class=2)
        assert np.bincount(made.train.labels).tolist() == [2] * classes
    else:  # its rows are the same in every split, which is what must not be
        with pytest.raises(UserError, match="share 64 ids"):
            make_splits(source, **drawn, real_per_class=2)
