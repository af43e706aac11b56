"""The report of a finished work directory: its numbers, its page, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from data import pools, records, tables
from data.errors import UserError
from launch import report
from launch.report import charts, tiles, words
from tests.launch import finished
from tests.launch.pages import Page

CLASSES = ("normal", "bacterial <b>pneumonia</b>", 'viral & "other"')
SECTIONS = (
    "headline", "arms", "paired", "choices", "side-by-side", "extremes", "kept", "annotated",
    "reliability", "classes", "copies", "fidelity", "curves", "time", "provenance",
)  # fmt: skip


@pytest.fixture(scope="module")
def config():
    made = finished.make_config(arms=("real", "classical", "random", "vrn"), seeds=3)
    made.data.salt = "cellar-door"
    return made


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("report") / "run"
    finished.make(folder, config, class_names=CLASSES, unlabelled=30)
    assert report.write_report(folder, config) == folder / "report" / "index.html"
    return folder


@pytest.fixture(scope="module")
def results(workdir):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((workdir / "report" / "results.json").read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def page(workdir):
    return Page((workdir / "report" / "index.html").read_text())


def _predictions(workdir, arm, seed):
    with np.load(workdir / "target" / arm / str(seed) / "predictions.npz") as found:
        return found["probs"].argmax(1), found["labels"]


def _balanced_accuracy(workdir, arm, seed):
    """By counting, one class at a time."""
    predicted, truth = _predictions(workdir, arm, seed)
    return np.mean([np.mean(predicted[truth == k] == k) for k in range(3)])


def test_results_follow_the_schema(results):
    assert set(results["arms"]) == {"real", "classical", "random", "vrn"}
    for metrics in results["arms"].values():
        assert {"accuracy", "balanced_accuracy", "auc", "recall/0", "recall/2"} <= set(metrics)
        for value in metrics.values():
            assert set(value) == {"mean", "ci95", "seeds"}
            assert len(value["seeds"]) == 3
            assert value["ci95"][0] <= value["mean"] <= value["ci95"][1]
    assert set(results["paired"]) == {"vrn-real", "vrn-classical", "vrn-random"}
    for metrics in results["paired"].values():
        assert all(set(value) == {"mean", "ci95"} for value in metrics.values())
    assert {"auc_within_synthetic", "acceptance_rate", "ece"} <= set(results["vrn"])
    assert all(isinstance(seconds, float) for seconds in results["seconds"].values())
    assert {"data", "gan", "target", "pools/second"} <= set(results["seconds"])


def test_mean_and_paired_difference_are_those_counted_by_hand(workdir, results):
    by_hand = {
        arm: [_balanced_accuracy(workdir, arm, seed) for seed in range(3)]
        for arm in ("vrn", "random")
    }
    vrn = results["arms"]["vrn"]["balanced_accuracy"]
    assert vrn["seeds"] == pytest.approx(by_hand["vrn"])
    assert vrn["mean"] == pytest.approx(np.mean(by_hand["vrn"]))
    difference = results["paired"]["vrn-random"]["balanced_accuracy"]["mean"]
    assert difference == pytest.approx(np.mean(by_hand["vrn"]) - np.mean(by_hand["random"]))


def test_interval_agrees_with_a_bootstrap_written_out(workdir, results):
    """Seeds and test images drawn with replacement, one resample at a time."""
    rng = np.random.default_rng(7)
    found = {
        arm: [_predictions(workdir, arm, seed) for seed in range(3)] for arm in ("vrn", "random")
    }
    count, differences = len(found["vrn"][0][1]), []
    for _ in range(2000):
        rows, seeds = rng.integers(count, size=count), rng.integers(3, size=3)
        means = {
            arm: np.mean([np.mean(one[s][0][rows] == one[s][1][rows]) for s in seeds])
            for arm, one in found.items()
        }
        differences.append(means["vrn"] - means["random"])
    expected = np.percentile(differences, [2.5, 97.5])
    value = results["paired"]["vrn-random"]["accuracy"]
    width = expected[1] - expected[0]
    assert value["ci95"] == pytest.approx(expected, abs=0.2 * width)


def test_histograms_count_what_the_filter_kept(workdir, results):
    table = tables.read_parquet(workdir / "filter" / "scores.parquet")
    pool = pools.open_pool(workdir / "pools" / "second")
    kept = table["sample_id"][(table["filter"] == "vrn") & table["kept"].astype(bool)]
    asked = np.bincount(pool.labels[np.isin(pool.ids, kept)], minlength=3)
    found = results["histograms"]["kept by vrn"]
    assert found["images"] == asked.sum()
    assert found["asked"] == pytest.approx(asked / asked.sum())
    assert sum(found["seen"]) == pytest.approx(1)
    # The reals that the classifier learnt from are of the same kind: it knows most of the test.
    assert results["histograms"]["real test images"]["agreement"] > 0.8


def test_a_planted_copy_is_the_first_suspect(tmp_path, config):
    folder = finished.make(tmp_path / "run", config, class_names=CLASSES)
    with np.load(folder / "features" / "embeddings.npz") as stored:
        first = stored["train"][4]
    with np.load(folder / "filter" / "embeddings.npz") as stored:
        second = stored["second"]
    second[17] = first
    tables.write_npz(folder / "filter" / "embeddings.npz", second=second)
    report.write_report(folder, config)
    found = tables.read_json(folder / "report" / "results.json")["memorisation"]["features"]
    assert found["suspects"][0] == pools.open_pool(folder / "pools" / "second").ids[17]
    assert found["suspects_distance"][0] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("space", ["features", "pixels"])
def test_memorisation_compares_what_the_gan_saw_with_what_it_did_not(workdir, results, space):
    sets = {name: records.open_records(workdir / "data", name) for name in ("train", "val", "test")}
    sets["second"] = pools.open_pool(workdir / "pools" / "second")
    if space == "features":
        rows = {}
        for folder in ("features", "filter"):
            with np.load(workdir / folder / "embeddings.npz") as stored:
                rows |= dict(stored)
    else:
        sets["unlabelled"] = records.open_records(workdir / "data", "unlabelled")
        rows = {k: r.read(np.arange(len(r))).reshape(len(r), -1) for k, r in sets.items()}
    seen = np.concatenate([rows[name] for name in ("train", "unlabelled") if name in rows])
    unseen = np.concatenate([rows["val"], rows["test"]])
    threshold = np.quantile(cdist(unseen, seen).min(1), 0.01)
    expected = np.mean(cdist(rows["second"], seen).min(1) < threshold)
    assert results["memorisation"][space]["duplicate_share"] == pytest.approx(expected)


def test_extremes_and_kept_images_are_those_of_the_scores(workdir, page):
    table = tables.read_parquet(workdir / "filter" / "scores.parquet")
    vrn = table["filter"] == "vrn"
    scores = dict(zip(table["sample_id"][vrn], table["score"][vrn], strict=True))
    kept = dict(zip(table["sample_id"][vrn], table["kept"][vrn], strict=True))
    pool = pools.open_pool(workdir / "pools" / "second")
    ranked = sorted(pool.ids[pool.labels == 0], key=scores.get)

    def shown(words):
        return [one["title"] for one in page.all("img") if one["alt"].startswith(words)]

    assert shown("worst normal") == ranked[:8]
    assert shown("best normal") == ranked[::-1][:8]
    assert all(kept[name] for name in shown("kept normal"))
    assert not any(kept[name] for name in shown("discarded normal"))
    assert len(shown("kept normal")) == len(shown("discarded normal")) == 8


def test_a_calibration_without_a_slope_is_said(tmp_path, config, page):
    folder = finished.make(tmp_path / "run", config, class_names=CLASSES)
    path = folder / "vrn" / "calibration.json"
    tables.write_json(path, tables.read_json(path) | {"method": "temperature", "scale": 0.0})
    report.write_report(folder, config)
    flat = Page((folder / "report" / "index.html").read_text())
    said = [sum("All probabilities are alike" in one for one in p.text) for p in (flat, page)]
    assert said == [2, 0]


def test_fidelity_has_its_floor_and_prefers_reals(results):
    sets = results["fidelity"]["sets"]
    assert next(iter(sets)) == "real validation"
    assert sets["real validation"]["kid"] < sets["second pool"]["kid"]
    assert sets["real validation"]["precision"] > sets["second pool"]["precision"]


def test_results_do_not_change_when_written_again(workdir, config, results):
    report.write_report(workdir, config)
    assert json.loads((workdir / "report" / "results.json").read_text()) == results


def test_program_makes_the_report_once(tmp_path, config, workdir):
    copy = shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(copy / "report")
    path = report.run(config, copy, False)
    assert tables.read_json(copy / "report" / "stage.json")["status"] == "complete"
    made = path.stat().st_mtime_ns
    assert report.run(config, copy, False) == path
    assert path.stat().st_mtime_ns == made


def test_page_has_every_section_and_heading(page):
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert set(SECTIONS) <= ids
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == len(SECTIONS) - 1
    targets = {one["href"] for one in page.all("a")}
    assert targets == {f"#{name}" for name in SECTIONS[1:]}


def test_page_loads_nothing(workdir, page):
    assert not page.all("script")
    assert not page.all("link")
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "poster", "data", "action", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, name)
    text = (workdir / "report" / "index.html").read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert not re.search(r"url\(", text)


def test_the_salt_of_patients_is_not_told(workdir):
    files = [path for path in (workdir / "report").iterdir() if path.is_file()]
    assert len(files) > 1
    assert not any(b"cellar-door" in path.read_bytes() for path in files)


def test_every_picture_has_words(page):
    assert len(page.all("img")) > 100
    assert all(one["alt"].strip() for one in page.all("img"))
    pictured = [one for one in page.all("svg") if one["role"] == "img"]
    assert len(pictured) == len(page.all("svg"))
    assert all(one["aria-label"].strip() for one in pictured)


def test_class_names_are_text_and_never_markup(workdir, page):
    text = (workdir / "report" / "index.html").read_text()
    assert "<b>pneumonia" not in text
    assert "&lt;b&gt;pneumonia" in text
    assert any(CLASSES[1] in one for one in page.text)
    assert any(CLASSES[2] in one["alt"] for one in page.all("img"))


def test_headline_says_what_the_numbers_say(results, page):
    value = results["paired"]["vrn-random"]["balanced_accuracy"]
    headline = next(one for one in page.text if "against randomly kept images" in one)
    assert f"{100 * value['mean']:+.1f}".replace("-", "\N{MINUS SIGN}") in headline
    low, high = value["ci95"]
    assert ("no difference shown" in headline) == (low <= 0 <= high)


@pytest.mark.parametrize(
    ("mean", "ends", "expected"),
    [
        (0.004, (-0.008, 0.016), "no difference shown"),
        (0.02, (0.001, 0.04), "a gain"),
        (-0.02, (-0.04, -0.001), "a loss"),
        (0.02, (None, None), "no interval, so nothing shown"),
    ],
)
def test_verdicts(mean, ends, expected):
    assert words.verdict({"mean": mean, "ci95": list(ends)}) == expected


def test_sentence_is_the_whole_truth():
    paired = {"vrn-random": {"balanced_accuracy": {"mean": 0.004, "ci95": [-0.008, 0.016]}}}
    thin = "\N{NARROW NO-BREAK SPACE}"
    assert words.comparisons(paired) == [
        f"Adding VRN-kept images changed balanced accuracy by +0.4 points (95{thin}% interval "
        "\N{MINUS SIGN}0.8 to +1.6) against randomly kept images: no difference shown."
    ]


def test_numbers_that_do_not_exist_become_null_and_dashes():
    assert words.with_interval({"mean": None, "ci95": [None, None]}) == "\N{EN DASH}"
    assert words.percent(None) == "\N{EN DASH}"
    # Nor is there a minus nothing.
    assert (words.points(-0.0004), words.points(0.0004)) == ("+0.0", "+0.0")
    assert words.number(-0.004) == "0.00"
    given = {"a": np.float32("nan"), "b": [np.int64(3), float("inf")], "c": np.arange(2)}
    assert report.results.without_nan(given) == {"a": None, "b": [3, None], "c": [0, 1]}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (93.1, 96.4, [93, 94, 95, 96, 97]),
        (-0.013, 0.021, [-0.02, -0.01, 0, 0.01, 0.02, 0.03]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    assert charts.nice_ticks(low, high)[0] == pytest.approx(expected)


def test_ticks_of_a_single_value():
    ticks, _ = charts.nice_ticks(5.0, 5.0)
    assert ticks[0] < 5 < ticks[-1]


def test_sixteen_bit_images_are_windowed_and_eight_bit_ones_are_not():
    rng = np.random.default_rng(0)
    stored = rng.integers(1000, 3000, (20, 8, 8, 1))  # 12-bit X-rays in 16 bits: all but black
    stored[1, 2, 3] = 65535  # a burnt-in mark must not darken everything else
    images = (stored / 32767.5 - 1).astype(np.float32)
    shown = tiles.Window.of(images, np.uint16).to_uint8(images[0])
    assert shown.shape == (8, 8)
    assert shown.min() < 30
    assert shown.max() > 225
    exact = np.arange(256, dtype=np.uint8).reshape(16, 16)
    unit = (exact[..., None] / 127.5 - 1).astype(np.float32)
    np.testing.assert_array_equal(tiles.Window.of(unit[None], np.uint8).to_uint8(unit), exact)


def test_sixteen_bit_run_with_one_seed_is_reported(tmp_path):
    config = finished.make_config(arms=("real", "vrn"), seeds=1)
    config.report.images = 3
    folder = finished.make(
        tmp_path / "run", config, class_names=CLASSES, size=32, dtype=np.uint16,
        first_per_class=16, second_per_class=12,
    )  # fmt: skip
    text = report.write_report(folder, config).read_text()
    Page(text)
    assert "16-bit images, window" in text
    assert "a single training seed" in text
    assert "against real images alone" in text


@pytest.mark.parametrize(
    ("folder", "program"),
    [("gan", "train_gan"), ("filter", "filter"), ("pools/second", "generate --pool=second")],
)
def test_missing_stage_names_folder_and_program(tmp_path, config, workdir, folder, program):
    copy = shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(copy / folder)
    shutil.rmtree(copy / "report")
    with pytest.raises(UserError, match=re.escape(f"python -m launch.{program}")) as error:
        report.write_report(copy, config)
    assert str(copy / folder) in str(error.value)
    assert not (copy / "report").exists()


def test_files_that_do_not_fit_are_named(tmp_path, config, workdir):
    copy = shutil.copytree(workdir, tmp_path / "run")
    damaged = copy / "target" / "vrn" / "1" / "predictions.npz"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"predictions\.npz.*launch\.train_target"):
        report.write_report(copy, config)
    damaged.write_bytes(whole)
    scores = copy / "filter" / "scores.parquet"
    table = tables.read_parquet(scores)
    table["sample_id"][0] = "000000000000-0-0"
    tables.write_parquet(scores, table)
    with pytest.raises(UserError, match=r"scores\.parquet is of another second pool"):
        report.write_report(copy, config)
