"""The translator through its programs: trained, resumed, judged."""

import json
import shutil
import subprocess
import sys
import types

import jax
import nibabel as nib
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score

from data import marks, twins
from data.builders.phantom import anatomy, render
from data.errors import UserError
from data.records import from_unit, to_unit
from gan.translation import apply
from launch import detectors, evaluate, models, prepare, train_translator, translate
from tests import dicom_files, tiny
from tests.launch import programs


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = tiny.get_config()
    config.data.source = "tfds:vrn_phantom/16"
    config.data.data_dir = str(tmp_path_factory.mktemp("tfds"))
    config.data.size = 16
    config.data.real_per_class = 0
    config.translator.domains = "healthy"
    config.translator.healthy = "healthy"
    config.report.resamples = 20
    return config


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("translator") / "run"
    prepare.run(config, workdir, overwrite=False)
    compiled = []

    def listen(event, seconds, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    train_translator.run(config, workdir, overwrite=False)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert sum("guarded_step" in name for name in compiled) == 1
    return workdir


def test_every_term_is_logged_and_sheets_are_drawn(config, trained):
    folder = trained / "translator"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 7))
    names = {"d_loss", "d_domain", "penalty", "g_identity", "g_cycle", "g_cycle_same", "g_domain"}
    assert names < set(lines[0])
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    (sheet,) = (folder / "samples").glob("*.png")
    # Two images of each of two domains; input, own domain, both domains, map.
    assert np.asarray(Image.open(sheet)).shape == (4 * 17 - 1, 5 * 17 - 1)


def test_interrupted_it_ends_with_the_same_bits(config, trained, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(trained, again)
    shutil.rmtree(again / "translator" / "checkpoints" / "6")
    record = json.loads((again / "translator" / "stage.json").read_text())
    (again / "translator" / "stage.json").write_text(json.dumps(record | {"status": "running"}))
    train_translator.run(config, again, overwrite=False)
    states = [train_translator.restore(config, folder)[1] for folder in (trained, again)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    metrics = [(run / "translator" / "metrics.jsonl").read_bytes() for run in (trained, again)]
    assert metrics[0] == metrics[1]


def test_two_devices_take_the_same_steps(config, trained, tmp_path):
    (tmp_path / "data").symlink_to(trained / "data")
    given = [f"--config.{name}={value}" for name, value in (
        ("data.source", config.data.source), ("data.data_dir", config.data.data_dir),
        ("data.real_per_class", 0), ("translator.domains", "healthy"),
        ("translator.healthy", "healthy"),
    )]  # fmt: skip
    environment = programs.environment() | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    }
    done = subprocess.run(
        [sys.executable, "-m", "launch.train_translator", programs.TINY, *given,
         f"--workdir={tmp_path}"],
        cwd=programs.ROOT, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "translator" / "stage.json").read_text())
    assert record["device"].startswith("2 x cpu")
    lines, others = (
        [
            json.loads(line)
            for line in (run / "translator" / "metrics.jsonl").read_text().splitlines()
        ]
        for run in (trained, tmp_path)
    )
    for line, theirs in zip(lines, others, strict=True):
        for metric, value in line.items():
            assert theirs[metric] == pytest.approx(value, rel=1e-3, abs=1e-4), metric


def test_twins_are_those_of_the_phantom(config, trained):
    part = prepare.open_split(trained, "val")
    given = {"data_dir": config.data.data_dir, "shape": part.image_shape}
    steps = config.data.preprocess
    known = twins.read(config.data.source, ids=part.ids[:5], preprocess=steps, **given)
    patients, visits = np.array([name.split("-")[1:] for name in part.ids[:5]], int).T
    made = render.render(anatomy.draw(0, patients, visits), (16, 16))
    np.testing.assert_allclose(known, made.twin, atol=1 / 255)
    with pytest.raises(UserError, match="has no twin of 1 images, 'nobody'"):
        twins.read(config.data.source, ids=["nobody"], preprocess=steps, **given)
    with pytest.raises(UserError, match=r"'resize\(crop\)', which moves images"):
        twins.read(config.data.source, ids=part.ids[:1], preprocess=("resize(crop)",), **given)


def test_an_image_without_a_mask_is_named(config, trained, monkeypatch):
    flags.FLAGS.mark_as_parsed()
    masks = prepare.open_masks(trained, "val")
    monkeypatch.setattr(prepare, "open_masks", lambda *_: masks.subset(np.arange(1, len(masks))))
    with pytest.raises(UserError, match=f"1 images have no mask, '{masks.ids[0]}' among them"):
        evaluate.run(config, trained, overwrite=False)


def test_it_is_judged_on_test_images(config, trained):
    flags.FLAGS.mark_as_parsed()
    path = evaluate.run(config, trained, overwrite=False)
    found = json.loads(path.read_text())
    part = prepare.open_split(trained, "test")
    images = part.read(np.arange(len(part)))
    spec, state = train_translator.restore(config, trained)
    made = apply.translate(spec.translator, state.ema_params, images, np.zeros((len(images), 1)))
    maps = np.abs(made - images)[..., 0]
    diseased = part.labels > 0
    assert found["images"]["test"] == len(images) == 300
    expected = roc_auc_score(diseased, maps.max((1, 2)))
    assert found["auc"]["max"]["mean"] == pytest.approx(expected)
    names = [name.split("-")[1:] for name in part.ids]
    phantoms = render.render(anatomy.draw(0, *np.array(names, int).T), (16, 16))
    precision = average_precision_score(phantoms.mask.ravel(), maps.ravel())
    assert found["pixel_ap"] == pytest.approx(precision)
    stored = to_unit(from_unit(phantoms.twin, np.uint8))
    before = np.abs(images - stored)[diseased].mean()
    assert found["twin"]["before"]["distance"] == pytest.approx(before, rel=1e-5)
    assert set(found["localisation"]) == {"threshold", "two_means"}
    assert set(found["localisation"]["threshold"]) == {"0.5", "1.0", "2.0"}


def test_a_linear_autoencoder_of_healthy_images_is_judged_alike(config, trained):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(maps="linear"):
        path = evaluate.run(config, trained, overwrite=False)
    found = json.loads(path.read_text())
    train, test = (prepare.open_split(trained, name) for name in ("train", "test"))
    healthy = train.read(np.flatnonzero(train.labels == 0)).reshape(-1, 256)
    images = test.read(np.arange(len(test)))
    model = PCA(found["width"], svd_solver="full").fit(healthy)
    again = model.inverse_transform(model.transform(images.reshape(-1, 256)))
    maps = np.abs(again - images.reshape(-1, 256))
    expected = roc_auc_score(test.labels > 0, maps.max(1))
    assert found["auc"]["max"]["mean"] == pytest.approx(expected, abs=1e-3)
    assert found["fixed_point"] == pytest.approx(maps.mean(), rel=1e-3)


def translated(config, workdir, **flags_):
    with flagsaver.flagsaver(**flags_):
        return translate.run(config, workdir, overwrite=False)


def test_files_are_translated_and_marked(config, trained, tmp_path):
    flags.FLAGS.mark_as_parsed()
    part = prepare.open_split(trained, "val")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name, row in (("a", 0), ("sub/b", 7)):
        pixels = part.read_raw(np.array([row]))[0, ..., 0]
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    out = tmp_path / "out"
    translated(config, trained, input=str(tmp_path / "in"), translations_to=str(out))
    spec, state = train_translator.restore(config, trained)
    images = part.read(np.array([0, 7]))
    made = apply.translate(spec.translator, state.ema_params, images, np.zeros((2, 1)))
    for image, result, name in zip(images, made, ("a", "sub/b"), strict=True):
        shown = np.asarray(Image.open(out / "translated" / f"{name}.png"))
        np.testing.assert_allclose(shown / 127.5 - 1, result[..., 0], atol=0.0041)
        change = Image.open(out / "difference" / f"{name}.png")
        assert change.mode == "I;16"
        values = np.asarray(change) / 65535 * 2
        np.testing.assert_allclose(values, np.abs(result - image)[..., 0], atol=2e-5)
        assert change.text["Synthetic"] == "yes"
        assert change.text["TargetDomain"] == "healthy"
        assert change.text["Source"] == f"{name}.png"
        colours = np.asarray(Image.open(out / "overlay" / f"{name}.png")).astype(float)
        share = np.clip(np.abs(result - image), 0, 1)
        expected = (1 - share) * image + share * [1, -1, -1]
        np.testing.assert_allclose(colours / 127.5 - 1, expected, atol=0.0041)
    # What a network made is refused as a source of real images.
    for what in ("translated", "difference", "overlay"):
        assert all(marks.of_file(f, out / what) for f in (out / what).rglob("*.png"))
    translated(
        config, trained, input=str(tmp_path / "in"), translations_to=str(out)
    )  # is there, and stays
    with pytest.raises(UserError, match=r"holds another export; .* with --translations_to, or"):
        translated(config, trained, input=str(tmp_path / "in" / "a.png"), translations_to=str(out))


def test_volumes_of_nifti_come_back_where_they_lay(config, trained, tmp_path):
    flags.FLAGS.mark_as_parsed()
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 3.0, 5.0, 1.0])
    affine[:3, 3] = (-7, 11, 13)
    voxels = rng.integers(-50, 200, (16, 16, 3)).astype(np.int16)
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(voxels, affine), path)
    out = translated(config, trained, input=str(path))
    assert out == trained / "translations" / "scan-healthy"
    slices = sorted((out / "difference").glob("*.nii.gz"))
    assert [one.name for one in slices] == [f"scan-{i}.nii.gz" for i in range(3)]
    spec, state = train_translator.restore(config, trained)
    low, high = float(voxels.min()), float(voxels.max())
    for number, one in enumerate(slices):
        change = nib.load(one)
        image = nib.load(out / "translated" / one.name)
        for found in (change, image):
            np.testing.assert_allclose(found.affine[:3, :3], affine[:3, :3], atol=1e-5)
            where = found.affine @ [0, 0, 0, 1]
            np.testing.assert_allclose(where, affine @ [0, 0, number, 1], atol=1e-4)
        unit = (voxels[..., number].astype(float) - low) / (high - low) * 2 - 1
        x = unit.T[::-1, ::-1, None][None].astype(np.float32)
        made = apply.translate(spec.translator, state.ema_params, x, np.zeros((1, 1)))
        values = made[0, ::-1, ::-1, 0].T
        in_units = (values + 1) / 2 * (high - low) + low
        np.testing.assert_allclose(image.get_fdata()[..., 0], in_units, atol=0.05)
        np.testing.assert_allclose(change.get_fdata()[..., 0], np.abs(values - unit), atol=1e-3)


def test_a_volume_is_one_file_without_overlay(config, trained, tmp_path, monkeypatch):
    flags.FLAGS.mark_as_parsed()
    config = config.copy_and_resolve_references()
    config.data.axis, config.data.depth = "volume", 3
    # The networks of `trained` are of images; those of volumes are tested alone.
    restored = train_translator.restore(config, trained)
    monkeypatch.setattr(train_translator, "restore", lambda *_: restored)
    volumes = types.SimpleNamespace(image_shape=(3, 16, 16, 1))
    monkeypatch.setattr(prepare, "open_split", lambda *_: volumes)
    monkeypatch.setattr(apply, "translate", lambda _, __, images, ___: images * np.float32(0.5))
    affine = np.diag([2.0, 3.0, 5.0, 1.0])
    voxels = np.random.default_rng(0).integers(0, 200, (16, 16, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "scan.nii.gz")
    out = translated(
        config, trained, input=str(tmp_path / "scan.nii.gz"), translations_to=str(tmp_path / "out")
    )
    made = {path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz")}
    assert made == {"translated/scan.nii.gz", "difference/scan.nii.gz"}
    assert not (out / "overlay").exists()
    low, high = float(voxels.min()), float(voxels.max())
    unit = (voxels - low) / (high - low) * 2 - 1
    image, change = (
        nib.as_closest_canonical(nib.load(out / what / "scan.nii.gz"))
        for what in ("translated", "difference")
    )
    np.testing.assert_allclose(image.affine, affine)
    in_units = (unit / 2 + 1) / 2 * (high - low) + low
    np.testing.assert_allclose(image.get_fdata(), in_units, atol=0.05)
    np.testing.assert_allclose(change.get_fdata(), np.abs(unit) / 2, atol=1e-3)


def test_dicom_is_translated(config, trained, tmp_path):
    flags.FLAGS.mark_as_parsed()
    pixels = (np.arange(256).reshape(16, 16) * 16).astype(np.uint16)
    dicom_files.save_dicom(tmp_path / "scan.dcm", pixels)
    out = translated(
        config, trained, input=str(tmp_path / "scan.dcm"), translations_to=str(tmp_path / "out")
    )
    change = np.asarray(Image.open(out / "difference" / "scan.png"))
    assert (change.shape, change.dtype) == ((16, 16), np.uint16)
    assert np.asarray(Image.open(out / "translated" / "scan.png")).dtype == np.uint16


def test_what_is_left_out_is_said(config, trained, tmp_path, capsys):
    flags.FLAGS.mark_as_parsed()
    config = config.copy_and_resolve_references()
    config.data.preprocess = ("drop_blank(0.1)", "resize")
    (tmp_path / "in").mkdir()
    ramp, blank = np.arange(256, dtype=np.uint8).reshape(16, 16), np.zeros((16, 16), np.uint8)
    blank[0, :16] = 9  # a sixteenth of the pixels
    for name, pixels in (("a", ramp), ("b", blank)):
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    out = translated(config, trained, input=str(tmp_path / "in"))
    assert [path.name for path in (out / "translated").glob("*.png")] == ["a.png"]
    said = capsys.readouterr().out
    assert "1 blank images left out: their pixels are all alike, or too few others by" in said
    assert "'drop_blank(0.1)' of --config.data.preprocess" in said
    with pytest.raises(UserError, match=r"no image that is not blank; .* leave drop_blank out of"):
        translated(config, trained, input=str(tmp_path / "in" / "b.png"))
    assert not (trained / "translations" / "b-healthy").exists()
    assert "1 blank images left out" in capsys.readouterr().out
    voxels = np.arange(16 * 16 * 4, dtype=np.int16).reshape(16, 16, 4)
    voxels[..., [0, 3]] = 0  # the end slices, blank whatever the steps are
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "scan.nii")
    config.data.preprocess = ("resize",)
    out = translated(config, trained, input=str(tmp_path / "scan.nii"), translations_to=str(
        tmp_path / "out"))  # fmt: skip
    assert len(list((out / "translated").glob("*.nii.gz"))) == 2
    assert "2 blank images left out: their pixels are all alike\n" in capsys.readouterr().out


def test_every_domain_has_a_folder_of_its_own(config, trained, tmp_path, monkeypatch):
    flags.FLAGS.mark_as_parsed()
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path / "scans")
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save("a.png")
    for domain, end in (("healthy", "healthy"), ("not healthy", "not-healthy")):
        for given, name in ((".", "scans"), ("a.png", "a")):
            out = translated(config, trained, input=given, domain=domain)
            assert out == trained / "translations" / f"{name}-{end}"
            assert Image.open(out / "translated" / "a.png").text["TargetDomain"] == domain


@pytest.mark.parametrize(("made", "flags_", "message"), [
    ((), {}, "--input is missing"),
    ((), {"input": "nowhere"}, "--input=nowhere does not exist"),
    ((), {"input": "."}, "holds no image, DICOM or NIfTI file"),
    (("a.png", "b.nii"), {"input": "."}, r"several kinds \(nifti, folder\); part them"),
    (("a.png",), {"input": "a.png"}, "a.png is no readable image"),
    (("a.png",), {"input": "a.png", "domain": "well"}, "choose from healthy, not healthy"),
])  # fmt: skip
def test_what_cannot_be_translated(config, trained, tmp_path, monkeypatch, made, flags_, message):
    flags.FLAGS.mark_as_parsed()
    monkeypatch.chdir(tmp_path)
    for name in made:
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(UserError, match=message):
        translated(config, trained, **flags_)


def test_mistakes_are_one_sentence(config, tmp_path):
    with pytest.raises(UserError, match="train_translator` with the same"):
        train_translator.restore(config, tmp_path)
    names = ("healthy", "nodule")
    other = config.copy_and_resolve_references()
    other.translator.healthy = "well"
    with pytest.raises(UserError, match="no class 'well' beside others: healthy, nodule"):
        models.translator_spec(other, names)
    other.translator.domains = "classes"
    between = models.domains(other.translator, names)
    with pytest.raises(UserError, match=r"'well' is no domain; .* of healthy, nodule"):
        detectors.healthy_domain(other, between)
    done = programs.run("train_translator", programs.TINY, f"--workdir={tmp_path}",
                        "--config.translator.output=sharp")  # fmt: skip
    assert done.returncode == 2
    assert "there is no 'sharp'; choose from plain, tanh" in done.stderr


def test_rates_fall_at_the_end(config):
    given = config.copy_and_resolve_references()
    given.translator.update(decay=0.5, steps=10, n_critic=3, g_lr=1.0, d_lr=2.0)
    # One long step in the direction of the gradient's sign.
    spec = models.translator_spec(given, ("healthy", "nodule"))
    for tx, updates, rate in ((spec.g_tx, 10, 1.0), (spec.d_tx, 30, 2.0)):
        state, moved = tx.init({"w": np.zeros(1)}), []
        for _ in range(updates):
            change, state = tx.update({"w": np.ones(1)}, state)
            moved.append(-float(change["w"][0]))
        np.testing.assert_allclose(moved[: updates // 2], rate, rtol=1e-3)
        assert moved[-1] == pytest.approx(rate * 2 / updates, rel=1e-2)
