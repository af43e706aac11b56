"""Translations and maps of disease in the report: with the loop, and of a translator alone."""

import re
import shutil

import numpy as np
import pytest

from data import records, tables
from data.errors import UserError
from evaluation import detection as scores
from launch import examples, report, stage
from launch.report import charts, colours, overlay, words
from tests.launch import finished
from tests.launch.pages import Page

CHECKPOINT = "5e" * 20


@pytest.fixture(scope="module")
def config():
    return finished.make_config(arms=("real", "vrn"), seeds=1)


def _judge(workdir, name, *, checkpoint=CHECKPOINT, masks=True, seed=0):
    """What `launch.evaluate` leaves of 30 images: maps of noise, and lesions in most of them."""
    rng = np.random.default_rng(seed)
    diseased = np.arange(30) % 3 > 0
    lesions = np.zeros((30, 16, 16), bool)
    lesions[diseased, 4:9, 5:11] = True
    maps = (rng.uniform(0, 0.3, lesions.shape) + 0.5 * lesions).astype(np.float32)
    images = rng.uniform(-1, 1, (*maps.shape, 1)).astype(np.float32)
    how = {"score": "top"} | ({"threshold": 0.4, "masks": lesions} if masks else {})
    path = workdir / "evaluation" / (f"detection-{name}.json" if name else "detection.json")
    made = {} if name else {"own": images, "healthy": -images, "twins": images}
    examples.keep(
        path.with_suffix(".npz"), images=images, maps=maps, diseased=diseased, **how, **made
    )
    value = {"mean": 0.9, "ci95": [0.8, 0.95]}
    found = {
        "images": {"val": 9, "test": 30}, "diseased": {"val": 6, "test": 20}, "score": "top",
        "auc": dict.fromkeys(scores.SCORES, value), "checkpoint_digest": checkpoint,
        "curves": examples.curves(maps, diseased, **how),
    }  # fmt: skip
    if masks:
        rates = dict.fromkeys(("0.5", "1.0", "2.0"), value)
        found |= {
            "localisation": {"threshold": rates}, "pixel_ap": 0.5, "dice": 0.4,
            "off_target": {"ratio": 0.2},
        }  # fmt: skip
    if not name:
        twin = {"before": {"distance": 0.2, "ssim": 0.5}, "after": {"distance": 0.1, "ssim": 0.8}}
        found |= {"fixed_point": 0.0123, "twin": twin}
    tables.write_json(path, found)


def _train(workdir):
    """A translator of that checkpoint, and training images where there are none."""
    if not (workdir / "data").exists():
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (12, 16, 16, 1), np.uint8)
        ids = [str(row) for row in range(12)]
        part = records.ArrayRecords(pixels, np.arange(12) % 2, ids, ("healthy", "nodule"))
        records.write_records(workdir / "data", {"train": part}, name="real")
        stage.begin(workdir, "data", {}).finish()
    begun = stage.begin(workdir, "translator", {}, needs=("data",))
    begun.finish(checkpoint_digest=CHECKPOINT)


def _train_detector(workdir, name, checkpoint=CHECKPOINT):
    stage.discard(workdir / "detectors" / name)
    begun = stage.begin(workdir, f"detectors/{name}", {}, needs=("data",))
    begun.finish(checkpoint_digest=checkpoint)


@pytest.fixture
def alone(tmp_path):
    """A work directory of a translator."""
    _train(tmp_path / "run")
    _judge(tmp_path / "run", "")
    return tmp_path / "run"


def test_a_translator_alone_has_a_page(config, alone):
    _judge(alone, "unet", masks=True, seed=1)
    _train_detector(alone, "unet")
    path = report.run(config, alone, overwrite=False)
    page = Page(path.read_text())
    assert {"detection", "curves", "provenance"} <= {a.get("id") for _, a in page.elements}
    text = " ".join(page.text)
    assert "with an AUC of 0.90 (0.80 to 0.95) and find" in text
    assert "0.0123" in text
    assert "The same by unet" in text
    # 14 images of the translator: image, own, healthy, map, twin; image and map of the other.
    assert len(page.all("img")) == 14 * 5 + 14 * 2
    drawn = [one for one in page.all("svg") if one["class"] == "overlay"]
    assert len(drawn) == 2 * 14
    assert all("lesions and its candidates" in one["aria-label"] for one in drawn)
    assert all(one["alt"].strip() for one in page.all("img"))
    assert not re.search(r"https?:|url\(|<script", path.read_text())
    found = tables.read_json(alone / "report" / "results.json")["detection"]
    assert list(found) == ["translator", "unet"]
    assert found["translator"]["pixel_ap"] == 0.5
    assert "curves" not in found["unet"]


def test_maps_without_masks_have_no_outlines(config, alone):
    _judge(alone, "", masks=False)
    page = Page(report.write_report(alone, config).read_text())
    assert not [one for one in page.all("svg") if one["class"] == "overlay"]
    assert not any("share of lesions found" in one for one in page.text)


def test_it_is_made_again_when_maps_were_judged_again(config, alone):
    path = report.run(config, alone, overwrite=False)
    first = path.stat().st_mtime_ns
    assert report.run(config, alone, overwrite=False).stat().st_mtime_ns == first
    _judge(alone, "unet")
    _train_detector(alone, "unet")
    assert "by unet" in report.run(config, alone, overwrite=False).read_text()


def test_the_loop_has_them_as_a_section(config, tmp_path):
    folder = finished.make(tmp_path / "run", config, class_names=("normal", "other"))
    without = Page(report.run(config, folder, overwrite=False).read_text())
    shutil.rmtree(folder / "translator", ignore_errors=True)
    _train(folder)
    _judge(folder, "")
    page = Page(report.run(config, folder, overwrite=False).read_text())
    assert {"detection", "arms"} <= {attributes.get("id") for _, attributes in page.elements}
    assert {"href": "#detection"} in page.all("a")
    assert len(page.all("img")) == len(without.all("img")) + 14 * 5
    assert {"href": "#detection"} not in without.all("a")


def test_a_loop_that_joins_a_translator_has_the_whole_page(config, alone):
    report.run(config, alone, overwrite=False)
    shutil.move(alone / "translator", alone / "trained")
    finished.make(alone, config, class_names=("normal", "other"))
    shutil.rmtree(alone / "translator", ignore_errors=True)
    shutil.move(alone / "trained", alone / "translator")
    page = Page(report.run(config, alone, overwrite=False).read_text())
    assert {"detection", "arms"} <= {attributes.get("id") for _, attributes in page.elements}


def test_slices_are_compared_within_heights_too(config, alone):
    path = alone / "evaluation" / "detection.json"
    within = {"top": {"mean": 0.7, "ci95": [0.6, 0.8]}}
    height = {"mean": 0.82, "ci95": [0.75, 0.88]}
    tables.write_json(path, tables.read_json(path) | {"matched": within, "height": height})
    page = Page(report.write_report(alone, config).read_text())
    text = " ".join(page.text)
    assert "an AUC of 0.70 (0.60 to 0.80) among slices of one height and find 90" in text
    assert "Of all images the AUC is 0.90 (0.80 to 0.95); the height of a slice alone" in text
    assert "AUC among slices of one height" in text
    row = page.text.index("by the height alone")
    assert page.text[row + 1 : row + 3] == ["0.82 (0.75 to 0.88)", "0.50"]


def test_a_classifier_has_a_row_for_its_own_score(config, alone):
    _judge(alone, "gradcam")
    _train_detector(alone, "gradcam")
    path = alone / "evaluation" / "detection-gradcam.json"
    found = tables.read_json(path)
    found["auc"]["network"] = {"mean": 0.66, "ci95": [0.55, 0.77]}
    tables.write_json(path, found)
    page = Page(report.write_report(alone, config).read_text())
    row = page.text.index("the classifier of gradcam")
    assert page.text[row + 1 : row + 3] == ["0.66 (0.55 to 0.77)", "(its own score)"]
    assert "the classifier of translator" not in page.text
    assert "by the height alone" not in page.text


@pytest.mark.parametrize("name", stage.DETECTORS)
def test_maps_of_a_detector_trained_since_are_stale(config, alone, name):
    _judge(alone, name)
    _train_detector(alone, name)
    report.run(config, alone, overwrite=False)
    _train_detector(alone, name, "trained again")
    # Also where the report is there already, and would be up to date.
    with pytest.raises(UserError, match=f"detection-{name}.json is of another {name} .*={name}$"):
        report.run(config, alone, overwrite=False)
    _judge(alone, name, checkpoint="trained again")
    report.run(config, alone, overwrite=False)


@pytest.mark.parametrize(("change", "message"), [
    (lambda folder: (folder / "evaluation" / "detection.npz").unlink(), "--maps=translator"),
    (lambda folder: _judge(folder, "", checkpoint="other"), "of another translator"),
    (lambda folder: shutil.rmtree(folder / "evaluation"), "detection.json is missing; run"),
])  # fmt: skip
def test_what_does_not_fit_is_named(config, alone, change, message):
    change(alone)
    with pytest.raises(UserError, match=message):
        report.write_report(alone, config)
    assert not (alone / "report").exists()


@pytest.mark.parametrize(("ends", "said"), [
    ((0.6, 0.9), "tell diseased from healthy images"),
    ((0.4, 0.9), "is not shown: AUC 0.75"),
    ((0.1, 0.4), "take healthy images for diseased"),
])  # fmt: skip
def test_the_headline_claims_no_more_than_the_interval(ends, said):
    value = {"mean": 0.75, "ci95": ends}
    assert said in words.found({"auc": {"max": value}, "score": "max"})
    # Of slices it is the area within heights that counts, however well the height does alone.
    good = {"mean": 0.95, "ci95": (0.9, 0.99)}
    within = {"auc": {"max": good}, "matched": {"max": value}, "height": good, "score": "max"}
    sentence = words.found(within)
    assert said in sentence
    assert "0.75" in sentence
    assert sentence.count("0.95 (0.90 to 0.99)") == 2


def test_no_height_with_both_kinds_shows_nothing():
    good, nothing = {"mean": 0.95, "ci95": (0.9, 0.99)}, {"mean": None, "ci95": [None, None]}
    within = {"auc": {"max": good}, "matched": {"max": nothing}, "height": good, "score": "max"}
    assert "is not shown: AUC \N{EN DASH} among slices of one height" in words.found(within)


def test_outlines_enclose_what_is_inside():
    rng = np.random.default_rng(0)
    inside = rng.random((7, 9)) < 0.5
    upright = np.zeros((7, 10), int)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", overlay.outline(inside)):
        upright[int(y) : int(y) + int(length), int(x)] += 1
    # Whoever walks along a row crosses an odd number of edges to any place inside.
    np.testing.assert_array_equal(np.cumsum(upright, 1)[:, :9] % 2 == 1, inside)
    flat = np.zeros((8, 9), int)
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)", overlay.outline(inside)):
        flat[int(y), int(x) : int(x) + int(length)] += 1
    np.testing.assert_array_equal(np.cumsum(flat, 0)[:7] % 2 == 1, inside)


def test_equal_steps_of_a_map_are_about_equal_steps_of_lightness():
    linear = (colours.scale() / 255.0) ** 2.2
    # CIE 1976 L*, which the scale was not made with.
    y = linear @ [0.2126, 0.7152, 0.0722]
    lightness = 116 * np.cbrt(y) - 16
    visible = lightness[32:]
    assert (visible[8:] > visible[:-8]).all()
    straight = np.linspace(visible[0], visible[-1], len(visible))
    assert np.abs(visible - straight).max() < 6
    assert colours.painted(np.array([[0.0, 0.5, 9.0]]), 0.5).tolist() == [
        [[0, 0, 0], colours.scale()[-1].tolist(), colours.scale()[-1].tolist()]
    ]
    assert not colours.painted(np.zeros((2, 2)), 0.0).any()


def test_a_chart_of_rates_says_its_numbers_and_reaches_its_marks():
    curve = {"false": [0.0, 0.5], "true": [0.0, 0.8]}
    drawn = str(charts.rates({"a & b": curve}, title="T", x="x", y="y", notes={"a & b": 0.8},
                             heading="share", marks=(1, 2)))  # fmt: skip
    assert "share: a &amp; b 0.80" in drawn
    marks = [float(one) for one in re.findall(r'<line x1="([\d.]+)"[^>]*zero dashed', drawn)]
    assert marks == [52 + 145, 52 + 290]
