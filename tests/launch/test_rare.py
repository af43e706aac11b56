"""Translations as pools of the loop: from a study's one table back to where every image is from."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

import launch.export
from data import marks, pools, records, tables
from data.builders.phantom import anatomy, render
from data.errors import UserError
from data.records import from_unit
from gan.translation import apply
from launch import generate, pipeline, prepare, stage, train_translator
from tests import tiny
from tests.launch import programs

NAMES = ("healthy", "nodule", "effusion")
IMAGES = {"train": 90, "val": 45, "test": 60}


def settings(source, rare="nodule", healthy="healthy"):
    return {
        "data.source": f"npz:{source}",
        "data.real_per_class": 30,
        "data.per_class": json.dumps({rare: 8}),
        "translator.healthy": healthy,
        "generate.generator": "translator",
        "generate.repeats": 5,
        "features.steps": 20,
        # A translator that has learnt nothing yet leaves images healthy: seen by a classifier they
        # are of the wrong class, while in themselves they are as real as can be.
        "annotate.method": "consistency",
        "annotate.threshold": 0.6,
        "extract.min_negatives": 8,
        "vrn.steps": 20,
        "filter.names": ("vrn", "discriminator"),
        "target.arms": ("duplicate", "vrn"),
    }


def as_flags(given):
    return [f"--config.{name}={value}" for name, value in given.items()]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Phantoms of 16 pixels, three visits of each patient."""
    content, patient = {"class_names": np.array(NAMES)}, 0
    for split, count in IMAGES.items():
        patients = patient + np.arange(count) // 3
        labels = patients % len(NAMES)
        visits = np.arange(count) % 3
        made = render.render(anatomy.draw(0, patients, visits, labels), (16, 16))
        content |= {
            f"{split}_images": from_unit(made.image, np.uint8), f"{split}_labels": labels[:, None],
            f"{split}_groups": np.array([f"p{number}" for number in patients]),
        }  # fmt: skip
        patient += count
    path = tmp_path_factory.mktemp("source") / "phantoms.npz"
    np.savez(path, **content)
    return path


@pytest.fixture(scope="module")
def config(source):
    config = tiny.get_config()
    config.update_from_flattened_dict(settings(source))
    return config


@pytest.fixture(scope="module")
def study(tmp_path_factory, source):
    """The smallest loop there is, of one training of the translator."""
    workdir = tmp_path_factory.mktemp("rare") / "run"
    done = programs.run(
        "study", programs.TINY, f"--workdir={workdir}", "--gan_seeds=1",
        *as_flags(settings(source)), timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return workdir


@pytest.fixture(scope="module")
def translated(study):
    return study / "seed0"


def test_the_table_and_the_report_are_of_translations(study, translated):
    found = json.loads((study / "results.json").read_text())
    rare = NAMES.index("nodule")
    recall = {}
    for arm in ("duplicate", "vrn"):
        recall[arm] = []
        for seed in range(2):
            with np.load(translated / "target" / arm / str(seed) / "predictions.npz") as arrays:
                truth = arrays["labels"] == rare
                recall[arm].append(np.mean(arrays["probs"].argmax(1)[truth] == rare))
        one = found["arms"][arm][f"recall/{rare}"]
        assert one["seeds"] == pytest.approx(recall[arm])
        assert one["ci95"][0] <= one["mean"] <= one["ci95"][1]
    one = found["paired"]["vrn-duplicate"][f"recall/{rare}"]
    assert one["mean"] == pytest.approx(np.mean(recall["vrn"]) - np.mean(recall["duplicate"]))
    head = (study / "table.md").read_text().splitlines()[0]
    assert head == "| | balanced accuracy | accuracy | AUC | recall of nodule |"
    page = (translated / "report" / "index.html").read_text()
    assert "translations of training images" in page.replace("\n", " ")
    assert "Translator losses" in page
    assert not (translated / "gan").exists()


def test_every_image_of_a_pool_tells_its_source_which_is_a_training_image(translated):
    train = prepare.open_split(translated, "train")
    row_of = {name: row for row, name in enumerate(train.ids)}
    used = {}
    for name in pools.FIRST_SEED:
        pool = pools.open_pool(translated / "pools" / name)
        manifest = pool.manifest.to_pydict()
        rows = np.array([row_of[source] for source in manifest["source_id"]])
        assert manifest["domain"] == [pool.class_names[label] for label in pool.labels]
        assert ((train.labels[rows] == 0) == (pool.labels != 0)).all()
        assert all(manifest["synthetic"])
        used[name] = set(np.asarray(train.groups)[rows])
    assert not used["first"] & used["second"]
    for split in ("val", "test"):
        part = prepare.open_split(translated, split)
        assert not set(row_of) & set(part.ids)
        assert not (used["first"] | used["second"]) & set(np.asarray(part.groups))


def test_an_image_is_the_translation_of_its_source(config, translated):
    pool = pools.open_pool(translated / "pools" / "second")
    train = prepare.open_split(translated, "train")
    row_of = {name: row for row, name in enumerate(train.ids)}
    found = pool.origins.to_pydict()
    plain = np.flatnonzero(np.array(found["repeat"]) == 0)
    sources = train.read(np.array([row_of[found["source_id"][row]] for row in plain]))
    spec, state = train_translator.restore(config, translated)
    codes = np.eye(len(pool.class_names))[pool.labels[plain]]
    made = apply.translate(spec.translator, state.ema_params, sources, codes)
    steps = from_unit(made, np.uint8).astype(int) - pool.read_raw(plain)
    assert len(plain) > 20
    # In other batches, so what lies between two values may be rounded otherwise.
    assert np.abs(steps).max() <= 1
    assert np.mean(steps != 0) < 0.01


class _Killed(BaseException):
    pass


def _pool_of_shards(config, translated, folder):
    for part in ("data", "translator"):
        shutil.copytree(translated / part, folder / part)
    generate.make_pool(config, folder, "second", overwrite=False)
    return {
        path.name: path.read_bytes()
        for path in sorted((folder / "pools" / "second").iterdir())
        if path.name != "stage.json"
    }


def test_a_killed_pool_goes_on_with_the_same_bytes(config, translated, tmp_path, monkeypatch):
    config = config.copy_and_resolve_references()
    config.generate.shards = 3
    whole = _pool_of_shards(config, translated, tmp_path / "whole")
    close = pools.PoolShard.close

    def killed(shard):
        close(shard)
        if shard.index == 1:
            raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(pools.PoolShard, "close", killed)
        with pytest.raises(_Killed):
            _pool_of_shards(config, translated, tmp_path / "parts")
    assert not list((tmp_path / "parts" / "pools" / "second").glob("*.array_record"))
    generate.make_pool(config, tmp_path / "parts", "second", overwrite=False)
    parts = tmp_path / "parts" / "pools" / "second"
    assert {name: (parts / name).read_bytes() for name in whole} == whole
    # Images are the same in one shard or in three, and made again from their ids.
    pool, three = (pools.open_pool(folder) for folder in (translated / "pools" / "second", parts))
    np.testing.assert_array_equal(*(p.read_raw(np.arange(len(pool))) for p in (pool, three)))
    rows = np.array([3, 20, len(pool) - 1])
    again = generate.regenerate(config, translated, pool.ids[rows].tolist())
    np.testing.assert_array_equal(again, pool.read(rows))


def test_exports_name_the_source_and_are_no_source_of_real_images(translated, config, tmp_path):
    flags.FLAGS.mark_as_parsed()
    folder = tmp_path / "out"
    with flagsaver.flagsaver(to=str(folder), what="pools/second"):
        launch.export.run(None, translated, False)
    train = prepare.open_split(translated, "train")
    pool = pools.open_pool(translated / "pools" / "second")
    found = pool.origins.to_pydict()
    row = 7
    (path,) = folder.rglob(f"{pool.ids[row]}.png")
    text = Image.open(path).text
    split, _, number = text["Source"].partition("-")
    assert split == "train"
    assert str(train.ids[int(number)]) == found["source_id"][row]
    assert text["TargetDomain"] == pool.class_names[pool.labels[row]] == path.parent.name
    assert text["Description"].startswith("Synthetic image that a neural network made of a real")
    assert all(marks.of_file(file, folder) for file in folder.rglob("*.png"))
    with flagsaver.flagsaver(to=str(tmp_path / "real"), what="data"):
        launch.export.run(None, translated, False)
    lines = {
        line["file"]: line
        for line in tables_of(folder / "labels.csv") + tables_of(tmp_path / "real" / "labels.csv")
    }
    source = next(name for name in lines if name.endswith(f"{text['Source']}.png"))
    # Whoever divides both sets keeps a patient's images and their translations together.
    assert lines[source]["patient"] == lines[str(path.relative_to(folder))]["patient"] != ""

    for where in (folder, tmp_path / "tests"):
        if where != folder:  # among the test images of an otherwise real source
            shutil.copytree(tmp_path / "real", where)
            (where / "export.json").unlink()
            shutil.copy(path, next((where / "test").iterdir()) / "innocent.png")
        refused = config.copy_and_resolve_references()
        refused.data.source, refused.data.per_class = f"folder:{where}", ""
        with pytest.raises(UserError, match="marked as synthetic"):
            prepare.run(refused, tmp_path / "again", False)


def tables_of(path):
    """Rows of a CSV file."""
    head, *lines = (line.split(",") for line in path.read_text().splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"translator.domains": "healthy"}, "has one domain for several of the classes healthy, "),
        ({"translator.healthy": "well"}, "'well' is no class; name the one whose images"),
        ({"generate.repeats": 1}, "raise --config.generate.repeats to 2"),
    ],
)
def test_what_can_be_no_pool_is_refused_before_anything_is_trained(
    config, translated, tmp_path, changes, words
):
    shutil.copytree(translated / "data", tmp_path / "data")
    config = config.copy_and_resolve_references()
    config.generate.first_per_class = 25  # of 15 sources
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=words):
        generate.check(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_later_round_without_sources_loses_nothing(config, translated, tmp_path):
    for part in ("data", "translator", "features", "pools/first", "annotation"):
        shutil.copytree(translated / part, tmp_path / part)
    config = config.copy_and_resolve_references()
    config.extract.min_negatives = 10_000  # no pool gives so many
    made = generate.rounds_made(config, tmp_path)
    config.extract.max_rounds = made + 1
    config.generate.repeats = -(-20 * made // 15)  # of 15 sources
    names = [f"pools/first/{name}" for name in ("manifest.parquet", "stage.json")]
    names += ["annotation/labels.parquet", "annotation/stage.json"]
    before = [(tmp_path / name).read_bytes() for name in names]
    later = made + 1
    message = (
        rf"10000 \(\d+ per class\) are needed; .* For round {later} of {later} the first pool "
        rf"would hold {20 * later} images of '\w+' .* raise --config\.generate\.repeats to \d+$"
    )
    with pytest.raises(UserError, match=message):
        pipeline.annotated_pool(config, tmp_path, False)
    assert [(tmp_path / name).read_bytes() for name in names] == before
    # With the mend that is named it goes on, and the pool grows.
    config.generate.repeats = -(-20 * later // 15)
    with pytest.raises(UserError, match=f"This was round {later} of --config"):
        pipeline.annotated_pool(config, tmp_path, False)
    ids = [pools.open_pool(folder / "pools" / "first").ids for folder in (translated, tmp_path)]
    assert len(ids[1]) == 20 * later * len(NAMES)
    assert ids[1][: len(ids[0])].tolist() == ids[0].tolist()


def test_another_generator_does_not_overwrite_a_pool(config, translated, tmp_path):
    for part in ("data", "translator"):
        shutil.copytree(translated / part, tmp_path / part)
    stage.begin(tmp_path, "gan", {}, ["data"]).finish(checkpoint_digest="1" * 64)
    noise = {"per_class": 20, "rounds": 1, "batch": 100, "shards": 1}
    stage.begin(tmp_path, "pools/first", noise, ["gan"]).finish()
    with pytest.raises(UserError, match=r"generator=None, not 'translator'.*or pass --overwrite"):
        generate.make_pool(config, tmp_path, "first", overwrite=False)
    assert stage.read(tmp_path, "pools/first")["inputs"].keys() == {"gan"}


def test_ids_of_classes_that_are_not_there_are_refused(config, translated):
    name = pools.open_pool(translated / "pools" / "first").ids[0]
    digest, _, seed = name.split("-")
    with pytest.raises(UserError, match="is of class 9 of 3, from 0"):
        generate.regenerate(config, translated, [f"{digest}-9-{seed}"])


def test_real_chest_xrays_in_the_whole_loop(tmp_path):
    folder = os.environ.get("VRN_TEST_DATA")
    if not folder:
        pytest.skip("needs chest X-rays: set VRN_TEST_DATA to a folder with cxr_pneumonia/")
    path = pathlib.Path(folder) / "cxr_pneumonia" / "cxr_pneumonia_64.npz"
    given = settings(path, rare="viral_pneumonia", healthy="normal")
    done = programs.run(
        "pipeline", programs.TINY, f"--workdir={tmp_path}", *as_flags(given), timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    train = records.open_records(tmp_path / "data", "train")
    normal = set(train.subset(train.labels == train.class_names.index("normal")).ids)
    pool = pools.open_pool(tmp_path / "pools" / "second")
    table = tables.read_parquet(tmp_path / "pools" / "second" / "manifest.parquet")
    viral = table["class_name"] == "viral_pneumonia"
    assert viral.sum() == len(pool) // 3
    assert set(table["source_id"][viral]) <= normal
    found = json.loads((tmp_path / "report" / "results.json").read_text())
    assert set(found["arms"]) == {"duplicate", "vrn"}
