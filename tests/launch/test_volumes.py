"""Volumes in the programs: prepared, looked at, augmented, exported, translated, and refused."""

import json

import nibabel as nib
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from nibabel.affines import apply_affine
from PIL import Image
from sklearn.metrics import roc_auc_score

import launch.export
from configs import default
from data import augment, loader, records, tables
from data.errors import UserError
from gan.translation import apply
from launch import check_data, evaluate, pipeline, prepare, train_translator
from tests import tiny
from tests.launch import programs

SHAPE = (16, 14, 6)  # columns, rows, slices


def _config(source: str):
    config = default.get_config()
    config.data.update(
        source=source, axis="volume", size=16, depth=6, real_per_class=0, workers=1,
        preprocess=("resize(pad)",), val_fraction=0.2, test_fraction=0.2,
    )  # fmt: skip
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A source of 16 volumes that lie askew, and what prepare makes of it."""
    root = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    affine = np.array([[-2, 0.1, 0, 30], [0.1, 2, 0.3, -20], [0, -0.3, 5, 10], [0, 0, 0, 1.0]])
    for label in "ab":
        (root / "scans" / label).mkdir(parents=True)
        for number in range(8):
            values = rng.integers(-1000, 3000, SHAPE, dtype=np.int16)
            volume = nib.Nifti1Image(values, affine)
            volume.header.set_slope_inter(0.5, 3)
            nib.save(volume, root / "scans" / label / f"{number}.nii.gz")
    prepare.run(_config(f"nifti:{root / 'scans'}"), root / "run", False)
    return root


def _values(path) -> tuple[np.ndarray, np.ndarray]:
    """Values and places [..., 3] of a file, as any reader sees them."""
    volume = nib.load(path)
    indices = np.moveaxis(np.indices(volume.shape), 0, -1)
    return volume.get_fdata(), apply_affine(volume.affine, indices)


def test_what_is_kept_of_a_volume(run):
    known = tables.read_parquet(run / "run" / "data" / "intensity.parquet")
    assert known["id"][0] == "a/0.nii.gz"
    assert set(known["depth"]) == {6}
    assert set(known["height"]) == {14}
    assert set(known["width"]) == {16}
    np.testing.assert_allclose(known["spacing_slice"], np.hypot(5, 0.3), rtol=1e-6)
    assert np.array(json.loads(known["affine"][0])).shape == (3, 4)
    train = prepare.open_split(run / "run", "train")
    assert train.image_shape == (6, 16, 16, 1)
    assert train.dtype == np.uint16


def test_an_exported_volume_lies_where_it_did_with_its_values(run):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(what="data", format="nifti"):
        folder = launch.export.run(None, run / "run", False)
    known = tables.read_parquet(run / "run" / "data" / "intensity.parquet")
    # Half a quantum, and what a slope of 32 bits adds to it.
    half = 1.01 * np.ptp([known["low"], known["high"]], axis=0).max() / 65535 / 2
    exported = sorted(folder.rglob("*.nii.gz"))
    assert len(exported) == 16
    originals = [_values(path) for path in sorted((run / "scans").rglob("*.nii.gz"))]
    for path in exported:
        values, _ = _values(path)
        assert nib.load(path).header.get_xyzt_units()[0] == "mm"
        matches = 0
        for original, there in originals:
            indices = apply_affine(np.linalg.inv(nib.load(path).affine), there)
            np.testing.assert_allclose(indices, np.rint(indices), atol=1e-4)
            seen = values[*np.moveaxis(np.rint(indices).astype(int), -1, 0)]
            matches += bool((np.abs(seen - original) <= half).all())
        assert matches == 1
    again = prepare.run(_config(f"nifti:{folder / 'train'}"), run / "again", False)
    stored = {
        image.tobytes()
        for split in ("train", "val", "test")
        for image in records.open_records(again, split).images
    }
    train = records.open_records(run / "run" / "data", "train")
    assert stored == {image.tobytes() for image in train.images}
    with (
        flagsaver.flagsaver(what="data", format="dicom"),
        pytest.raises(UserError, match="--format=dicom can't hold volumes; use --format=nifti"),
    ):
        launch.export.run(None, run / "run", False)


def test_batches_of_volumes_are_augmented(run):
    part = loader.Part(prepare.open_split(run / "run", "train"), 4)
    names = ("rotate", "elastic", "noise", "mixup")
    batch = loader.BatchSource([part], seed=0, augment=names)[3]
    plain = loader.BatchSource([part], seed=0)[3]
    assert batch["image"].shape == plain["image"].shape == (4, 6, 16, 16, 1)
    assert plain["image"].min() >= -1
    one = loader.BatchSource([part], seed=0, augment=("rotate",))[3]["image"]
    expected = augment.augment(plain["image"], ("rotate",), 1.0, (0, 3))
    np.testing.assert_array_equal(one, expected)


def test_the_contact_sheet_shows_middle_slices(run):
    path = check_data.augmented(_config(""), run / "run")
    picture = np.asarray(Image.open(path))
    train = prepare.open_split(run / "run", "train")
    part = loader.Part(train, 8)
    first = loader.BatchSource([part], seed=0)[0]["image"][0, 3, ..., 0]
    tile = picture[:64, 80:144][::4, ::4]
    np.testing.assert_array_equal(tile, np.rint((first + 1) * 127.5).astype(np.uint8))


def test_volumes_are_looked_at(run, tmp_path):
    config = _config(f"nifti:{run / 'scans'}")
    page = check_data.look(config.data.source, config.data, tmp_path)
    assert "depth x height x width x channels" in page.read_text()
    assert "6 x 14 x 16 x 1" in page.read_text()
    text = (page.parent / "config.py").read_text()
    assert 'config.data.axis = "volume"' in text
    assert "config.data.depth = 6" in text


def test_networks_say_what_to_do(run):
    done = programs.run("train_gan", programs.TINY, f"--workdir={run / 'run'}")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "take images, and 6 x 16 x 16 are volumes" in last
    assert "--config.data.axis=axial" in last
    with pytest.raises(UserError, match="the networks take images, and 6 x 16 x 16 are volumes"):
        pipeline.run(_config("nifti:nowhere"), run / "nowhere", False)
    assert not (run / "nowhere").exists()


def _translating(source: str, depth: int):
    config = tiny.get_config()
    config.data.update(_config(source).data)
    config.data.depth = depth
    config.translator.update(
        domains="healthy", healthy="a", width=2, batch=2, n_critic=1, steps=2, sample_every=2
    )
    config.report.resamples = 20
    return config


def test_sides_that_networks_cannot_take_leave_no_stage(run):
    with pytest.raises(UserError, match=r"\(6, 16, 16\) can't be; prepare others, with"):
        train_translator.run(_translating("", 6), run / "run", False)
    assert not (run / "run" / "translator").exists()


def test_volumes_are_translated_and_judged(tmp_path):
    flags.FLAGS.mark_as_parsed()
    rng = np.random.default_rng(1)
    for label in "ab":
        (tmp_path / "scans" / label).mkdir(parents=True)
        for number in range(10):
            values = rng.integers(0, 200, (16, 16, 16), dtype=np.int16)
            values[4:9, 4:9, 4:9] += 600 * (label == "b")
            path = tmp_path / "scans" / label / f"{number}.nii.gz"
            nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    config = _translating(f"nifti:{tmp_path / 'scans'}", 16)
    workdir = tmp_path / "run"
    prepare.run(config, workdir, False)
    folder = train_translator.run(config, workdir, False)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    spec, state = train_translator.restore(config, workdir)
    assert state.g_params["from_image"]["kernel"].shape[:3] == (7, 7, 7)
    # Middle slices of two volumes of each domain, as they are and as they are made.
    (sheet,) = (folder / "samples").glob("*.png")
    picture = np.asarray(Image.open(sheet))
    assert picture.shape == (4 * 17 - 1, 5 * 17 - 1)
    val = prepare.open_split(workdir, "val")
    first = val.read(np.flatnonzero(val.labels == 0)[:1])
    np.testing.assert_allclose(picture[:16, :16], (first[0, 8, ..., 0] + 1) * 127.5, atol=0.51)
    healthy = apply.translate(spec.translator, state.ema_params, first, np.zeros((1, 1)))
    shown = (healthy[0, 8, ..., 0] + 1) * 127.5
    np.testing.assert_allclose(picture[:16, 34:50], shown, atol=0.51)

    found = json.loads(evaluate.run(config, workdir, False).read_text())
    test = prepare.open_split(workdir, "test")
    volumes = test.read(np.arange(len(test)))
    made = apply.translate(spec.translator, state.ema_params, volumes, np.zeros((len(test), 1)))
    maps = np.abs(made - volumes)[..., 0]
    assert maps.shape[1:] == (16, 16, 16)
    expected = roc_auc_score(test.labels == 1, maps.mean((1, 2, 3)))
    assert found["auc"]["mean"]["mean"] == pytest.approx(expected)
