"""Detectors through their programs: trained, resumed, judged as the translator is."""

import json
import shutil

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image
from scipy import special
from sklearn.metrics import average_precision_score, roc_auc_score

from data import loader
from data.errors import UserError
from data.records import ArrayRecords
from launch import (
    detectors,
    evaluate,
    heights,
    models,
    prepare,
    stage,
    train_detector,
    train_translator,
)
from tests import tiny

LESION = slice(5, 11)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Slices of 16 pixels, of 12 patients with 8 each; a bright square where there is a lesion."""
    rng = np.random.default_rng(0)
    content = {"class_names": np.array(["healthy", "ill"])}
    for number, (split, count) in enumerate((("train", 6), ("val", 3), ("test", 3))):
        images = rng.integers(0, 120, (8 * count, 16, 16), dtype=np.uint8)
        slices = np.tile(np.arange(8, dtype=np.int16), count)
        # In the middle slices a lesion is likely, in others not.
        ill = rng.random(len(images)) < np.where(abs(slices - 3.5) < 2, 0.8, 0.15)
        masks = np.zeros(images.shape, np.uint8)
        masks[ill, LESION, LESION] = 255
        images[masks > 0] += 60
        content |= {
            f"{split}_images": images, f"{split}_masks": masks, f"{split}_slice_index": slices,
            f"{split}_labels": ill.astype(np.uint8),
            f"{split}_patients": np.repeat([f"{number}-{i}" for i in range(count)], 8),
        }  # fmt: skip
    path = tmp_path_factory.mktemp("slices") / "slices.npz"
    np.savez(path, **content)
    config = tiny.get_config()
    config.data.source = f"npz:{path}"
    config.data.size = 16
    config.data.real_per_class = 0
    config.translator.domains = "healthy"
    config.translator.healthy = "healthy"
    config.report.resamples = 20
    return config


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    flags.FLAGS.mark_as_parsed()
    workdir = tmp_path_factory.mktemp("detectors") / "run"
    prepare.run(config, workdir, overwrite=False)
    for name in stage.DETECTORS:
        train(config, workdir, name)
    return workdir


def train(config, workdir, name):
    with flagsaver.flagsaver(maps=name):
        return train_detector.run(config, workdir, overwrite=False)


def judge(config, workdir, name):
    with flagsaver.flagsaver(maps=name):
        return json.loads(evaluate.run(config, workdir, overwrite=False).read_text())


def opened(config, workdir, name):
    """The network's function of images, by the checkpoint alone."""
    detector = detectors.Detector(config, workdir, name)
    params = detector.trainer.restore(workdir / "detectors" / name)
    model = detector.trainer.spec.model
    return lambda images: jax.jit(model.apply)({"params": params}, images)


def truth(workdir):
    part = prepare.open_split(workdir, "test")
    images = part.read(np.arange(len(part)))
    return images, part.labels == 1


@pytest.mark.parametrize("name", stage.DETECTORS)
def test_a_training_is_logged_and_shown(trained, name):
    folder = trained / "detectors" / name
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 7))
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    (sheet,) = (folder / "samples").glob("*.png")
    columns = 3 + (name in ("autoencoder", "vae"))  # image, reconstruction, map, mask
    picture = np.asarray(Image.open(sheet))
    assert picture.shape == (8 * 17 - 1, columns * 17 - 1)
    val = prepare.open_split(trained, "val")
    first = val.read_raw(np.flatnonzero(val.labels == 0)[:1])[0, ..., 0]
    np.testing.assert_array_equal(picture[:16, :16], first)
    assert (picture[-16:, -16:] == 255).sum() == 36  # the lesion of the last


def test_probabilities_are_judged(config, trained):
    images, ill = truth(trained)
    found = judge(config, trained, "unet")
    maps = special.expit(np.asarray(opened(config, trained, "unet")(images), np.float64))
    assert found["auc"]["max"]["mean"] == pytest.approx(roc_auc_score(ill, maps.max((1, 2))))
    masks = np.zeros(maps.shape, bool)
    masks[ill, LESION, LESION] = True
    precision = average_precision_score(masks.ravel(), maps.ravel())
    assert found["pixel_ap"] == pytest.approx(precision)
    assert "fixed_point" not in found
    assert "twin" not in found
    # The same, pair by pair within heights: all patients have slices 0 to 7.
    heights = (np.tile(np.arange(8), 3) / 7 * 10).astype(int)
    pairs = [
        (i, j)
        for i in np.flatnonzero(ill)
        for j in np.flatnonzero(~ill)
        if heights[i] == heights[j]
    ]
    scores = maps.max((1, 2))
    ordered = np.mean([scores[i] > scores[j] for i, j in pairs])
    assert found["matched"]["max"]["mean"] == pytest.approx(ordered)
    assert found["matched"]["max"]["pairs"] == len(pairs)
    train_split = prepare.open_split(trained, "train")
    often = np.reshape(train_split.labels, (6, 8)).mean(0)
    alone = roc_auc_score(ill, np.tile(often, 3))
    assert found["height"]["mean"] == pytest.approx(alone)
    assert alone > 0.65


@pytest.mark.parametrize(
    ("name", "share"), [("gradcam", 1.0), ("unet", 1.0), ("translator", 1.0), ("translator", 0.5)]
)
def test_healthy_slices_come_at_the_heights_of_diseased_ones(config, trained, name, share):
    config = config.copy_and_resolve_references()
    config.translator.match_heights = share
    real = prepare.open_split(trained, "train")
    if name == "translator":
        domains = models.domains(config.translator, real.class_names)
        parts = train_translator.parts(config.translator, trained, real, domains)
    else:
        parts = detectors.Detector(config, trained, name).parts()
    source = loader.BatchSource(parts, seed=0)
    number = {image.tobytes(): i for i, image in enumerate(real.read(np.arange(len(real))))}
    seen = [number[image.tobytes()] for i in range(300) for image in source[i]["image"]]
    height = np.arange(len(real)) % 8  # each in a bin of its own
    ill = real.labels == 1
    drawn, there, healthy = (
        np.bincount(height[which], minlength=8) / len(which)
        for which in ([i for i in seen if not ill[i]], np.flatnonzero(ill), np.flatnonzero(~ill))
    )
    expected = np.where(healthy > 0, share * there + (1 - share) * healthy, 0)
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.02)
    assert abs(drawn - healthy).max() > 0.05


def test_heights_must_be_known_to_be_matched(config, trained, monkeypatch):
    config = config.copy_and_resolve_references()
    config.translator.match_heights = 1.0
    monkeypatch.setattr(prepare, "slices_of", lambda workdir, part: None)
    with pytest.raises(UserError, match="match_heights: of these images it is not known"):
        detectors.Detector(config, trained, "gradcam")
    assert detectors.Detector(config, trained, "vae").parts()  # of healthy images alone
    with pytest.raises(UserError, match="match_heights: of these images it is not known"):
        train_translator.run(config, trained, overwrite=False)
    assert not (trained / "translator").exists()


def test_settings_are_compared_without_the_test_split(config, trained, monkeypatch):
    opened_, split_of = [], prepare.open_split
    judge(config, trained, "unet")
    before = (trained / "evaluation" / "detection-unet.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "open_split", lambda w, s: opened_.append(s) or split_of(w, s))
        with flagsaver.flagsaver(split="val"):
            found = judge(config, trained, "unet")
    assert set(opened_) == {"train", "val"}
    assert (trained / "evaluation" / "detection-unet.json").read_bytes() == before
    assert (trained / "evaluation" / "validation-unet.npz").exists()
    val = prepare.open_split(trained, "val")
    maps = special.expit(np.float64(opened(config, trained, "unet")(val.read(np.arange(24)))))
    area = roc_auc_score(val.labels, maps.max((1, 2)))
    assert found["auc"]["max"]["mean"] == pytest.approx(area)
    assert found["split"] == "val"


def test_a_classifier_is_judged_by_its_map_and_by_itself(config, trained):
    images, ill = truth(trained)
    found = judge(config, trained, "gradcam")
    logits = np.asarray(opened(config, trained, "gradcam")(images))
    expected = roc_auc_score(ill, logits[:, 1] - logits[:, 0])
    assert found["auc"]["network"]["mean"] == pytest.approx(expected)
    assert set(found["matched"]) == set(found["auc"]) == {"max", "mean", "top", "network"}
    assert set(found["localisation"]) == {"threshold", "two_means"}


@pytest.mark.parametrize("name", ["autoencoder", "vae"])
def test_a_reconstruction_is_judged(config, trained, name):
    images, ill = truth(trained)
    found = judge(config, trained, name)
    made = opened(config, trained, name)(images)
    made = np.asarray(made[0] if name == "vae" else made)
    maps = np.abs(made - images)[..., 0]
    expected = roc_auc_score(ill, maps.mean((1, 2)))
    assert found["auc"]["mean"]["mean"] == pytest.approx(expected)
    assert found["fixed_point"] == pytest.approx(maps.mean(), rel=1e-5)


def test_the_autoencoder_stands_beside_the_translators_fixed_point(config, trained, monkeypatch):
    def stands_still(*_):
        maps = np.random.default_rng(0).random((24, 16, 16), np.float32)
        return lambda images, own: detectors.Found(maps, images, images), {}

    monkeypatch.setattr(detectors, "_translator", stands_still)
    found = judge(config, trained, "translator")
    images, _ = truth(trained)
    made = np.asarray(opened(config, trained, "autoencoder")(images), np.float64)
    assert found["fixed_point"] == 0
    assert found["fixed_point_autoencoder"] == pytest.approx(np.abs(made - images).mean(), rel=1e-5)
    assert found["fixed_point_autoencoder"] > 0.1


def test_what_cannot_be_measured_is_a_dash(config, trained, monkeypatch, capsys):
    black = prepare.masks_of(trained, "test", prepare.open_split(trained, "test"))
    black = ArrayRecords(
        np.zeros_like(black.read_raw(np.arange(len(black)))), black.labels, list(black.ids),
        ("healthy", "ill"),
    )  # fmt: skip
    masks_of = prepare.masks_of
    monkeypatch.setattr(prepare, "masks_of", lambda *a: black if a[1] == "test" else masks_of(*a))
    apart = lambda _, part, __: heights.Heights(part.labels, part.labels)  # noqa: E731
    monkeypatch.setattr(heights, "judged", apart)  # no height has healthy and diseased slices
    found = judge(config, trained, "gradcam")
    assert found["matched"]["max"] == {"mean": None, "ci95": [None, None], "pairs": 0}
    assert not {"localisation", "pixel_ap", "dice", "off_target"} & set(found)
    said = capsys.readouterr().out
    assert "no mask of the test split shows a lesion" in said
    assert "slice height: AUC \N{EN DASH} by max, \N{EN DASH} by mean" in said
    told = evaluate.told(
        {"auc": {}, "score": "max", "pixel_ap": 0.5, "dice": 0.25}
        | {"off_target": {"inside": None, "outside": 0.125}}
    )
    assert told[0].endswith("outside lesions / inside 0.1250 / \N{EN DASH}")


def test_an_autoencoder_learns_from_healthy_images_alone(config, trained):
    train_split = prepare.open_split(trained, "train")
    for name in stage.DETECTORS:
        parts = detectors.Detector(config, trained, name).parts()
        shown = {str(id_) for part in parts for id_ in part.records.ids}
        of_healthy = name in ("autoencoder", "vae")
        expected = train_split.ids[train_split.labels == 0] if of_healthy else train_split.ids
        assert shown == set(expected.tolist())
        for part in parts:
            if name == "gradcam":
                assert set(part.records.labels) == {part.label}
            if name == "unet":
                masks = part.masks.read_raw(np.arange(len(part.masks)))
                np.testing.assert_array_equal(masks.any((1, 2, 3)), part.records.labels == 1)


def test_interrupted_it_ends_with_the_same_bits(config, trained, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(trained, again)
    shutil.rmtree(again / "detectors" / "vae" / "checkpoints" / "6")
    record = json.loads((again / "detectors" / "vae" / "stage.json").read_text())
    path = again / "detectors" / "vae" / "stage.json"
    path.write_text(json.dumps(record | {"status": "running"}))
    train(config, again, "vae")
    after = json.loads(path.read_text())
    assert after["facts"] == record["facts"]
    assert after["status"] == "complete"
    assert after["resumed"]


def test_other_settings_are_refused_and_those_of_others_do_not_count(config, trained):
    other = config.copy_and_resolve_references()
    other.detector.kl_weight = 0.5
    train(other, trained, "unet")  # up to date
    with pytest.raises(UserError, match=r"detector\.kl_weight=0\.02, not 0\.5"):
        train(other, trained, "vae")
    other.translator.width = 8
    train(other, trained, "unet")
    with pytest.raises(UserError, match=r"translator\.width=4, not 8"):
        train(other, trained, "autoencoder")
    moved = config.copy_and_resolve_references()
    moved.detector.healthy_augment = ("flip",)
    train(moved, trained, "gradcam")
    for name in ("autoencoder", "vae"):
        assert detectors.Detector(moved, trained, name).augment == ("flip",)
        with pytest.raises(UserError, match=r"detector\.healthy_augment=\[\], not \['flip'\]"):
            train(moved, trained, name)


def test_mistakes_are_one_sentence(config, trained, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--maps=translator: launch\.train_translator trains it;"):
        train(config, trained, "translator")
    with pytest.raises(UserError, match="--maps=linear: it is not trained; give autoencoder, vae"):
        train(config, trained, "linear")
    (tmp_path / "data").symlink_to(trained / "data")
    with pytest.raises(UserError, match=r"launch\.train_detector --maps=vae` with the same"):
        judge(config, tmp_path, "vae")
    monkeypatch.setattr(prepare, "open_masks", lambda *_: None)
    with pytest.raises(UserError, match=r"--maps=unet learns from masks, and npz:.* has none"):
        train(config, tmp_path, "unet")
    assert not (tmp_path / "detectors").exists()
    other = config.copy_and_resolve_references()
    other.translator.domains = "classes"
    other.translator.healthy = "well"
    with pytest.raises(UserError, match="healthy='well' is no domain"):
        train(other, tmp_path, "vae")


def test_volumes_are_for_those_that_take_them(config, trained, tmp_path, monkeypatch):
    volumes = ArrayRecords(
        np.zeros((4, 8, 16, 16, 1), np.uint8), np.arange(4) % 2, list("abcd"), ("healthy", "ill")
    )
    monkeypatch.setattr(prepare, "open_split", lambda *_: volumes)
    with pytest.raises(UserError, match="networks take images, and 8 x 16 x 16 are volumes"):
        detectors.Detector(config, trained, "gradcam")
    monkeypatch.setattr(prepare, "masks_of", lambda *_: volumes)
    with pytest.raises(UserError, match=r"U-Net halves images 4 times, and \(8, 16, 16\) can't be"):
        detectors.Detector(config, trained, "unet")
    detector = detectors.Detector(config, trained, "vae")
    state = jax.eval_shape(detector.trainer._init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), state.params)
    found = detector.find(params, np.ones((2, 8, 16, 16, 1), np.float32))
    np.testing.assert_array_equal(found.maps, np.ones((2, 8, 16, 16)))
    assert train_detector.sheet(np.ones((2, 8, 16, 16, 1)), found, None).shape == (33, 50, 1)
