"""A study's cells from the loop's own networks, tiny ones, and the report of their results."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.vrn_truth import bench, cells, generator, pools, report, results, setting, studies


@pytest.fixture(scope="module")
def config():
    made = setting.get_config()
    made.data.real_per_class = 8
    made.gan.width, made.gan.steps, made.gan.checkpoint_every = 4, 4, 2
    made.features.width, made.features.steps = 4, 10
    made.vrn.width, made.vrn.steps, made.vrn.depth = 4, 60, 10
    made.target.width, made.target.steps = 4, 10
    return made


@pytest.fixture(scope="module")
def measured(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    return bench.Bench(config, folder, 1), folder


def test_a_vrn_learns_what_an_expert_says_and_nothing_from_noise(measured):
    made, _ = measured
    first, second = pools.first(1, 200, 0.5, ["blank"]), pools.second(1, 80, 0.5, ["blank"])
    verdicts = first.sound.astype(np.int8)
    score = bench.train(made, first.records, verdicts).score(second.records)
    assert score[second.sound].min() > score[~second.sound].max()
    again = bench.train(made, first.records, verdicts).score(second.records)
    np.testing.assert_array_equal(score, again)


def test_what_one_vrn_changes_is_not_there_for_the_next(measured):
    made, _ = measured
    first = pools.first(1, 200, 0.5, ["blank"])
    before = made.config.to_dict()
    bench.train(made, first.records, first.sound.astype(np.int8), lr=1e-4, blur=0.0)
    assert made.config.to_dict() == before


def test_filters_are_the_loops_and_the_oracle_keeps_what_is_sound(measured):
    made, _ = measured
    pool = pools.second(1, 80, 0.5, ["blank"])
    described = made.space.describe(pool.records)
    scores = bench.filter_scores(made, pool, described, np.zeros(80))
    assert set(scores) == {*made.config.filter.names, "oracle"}
    assert pool.sound[bench.keep(made.config, pool.records, scores["oracle"])].all()
    kept = bench.keep(made.config, pool.records, scores["knn"])
    np.testing.assert_array_equal(np.bincount(pool.records.labels[kept]), [10] * 4)
    # A grey image is far from every real one: the loop's own density filter sees that.
    assert pool.sound[kept].mean() > 0.9


def test_a_cell_of_every_kind(measured):
    made, _ = measured
    main = studies.STUDIES["main"][1](made, family="texture", rate=0.3)
    assert set(main["accuracy"]) == {*results.FILTERS, "unfiltered"}
    assert set(main["filters"]["vrn"]["auc_by_kind"]) == {"checkerboard", "blur", "blank"}
    assert main["filters"]["oracle"]["auc"] == 1
    noise = studies.STUDIES["noise"][1](made, family="absurd", variant="two who agree")
    assert 0 <= noise["vrn"]["auc"] <= 1
    found = generator.measure(made)
    faults = found["faults"]
    assert faults["pool"] != faults["earlier pool"]  # the generators are of different steps
    assert faults["real"]["any"] < 0.1 < faults["pool"]["any"]  # four steps make no phantom


def test_the_report_shows_what_the_cells_say(tmp_path):
    """Results that are made up, so that every number in the tables is known."""
    names = (*results.FILTERS, "unfiltered")

    def ranking(value):
        kinds = dict.fromkeys(sum(map(list, pools.FAMILIES.values()), []), value)  # noqa: RUF017
        return {"auc": value, "precision": value, "recall": value, "fault_rate": 1 - value,
                "auc_by_kind": kinds, "kept_by_kind": kinds, "missed": value}  # fmt: skip

    def result(cell):
        value = 0.5 + 0.1 * cell.seed
        accuracy = value if cell.study == "real" else dict.fromkeys(names, value)
        return {
            "filters": dict.fromkeys(names, ranking(value)), "accuracy": accuracy,
            "annotators": dict.fromkeys(studies.AUTOMATIC, ranking(value)), "calibration": None,
            "vrn": ranking(value), "auc_real_sound": value,
        }  # fmt: skip

    every = studies.cells([name for name in studies.STUDIES if name != "generator"], range(3))
    cells.run(every, tmp_path, "key", result)
    text = report.write(tmp_path, tmp_path / "figures", range(3)).read_text()
    # Mean of 0.5, 0.6, 0.7; half the width is 4.3027 * 0.1 / sqrt(3).
    assert "| knn | 0.60 (0.35 to 0.85)" in text
    assert "| vrn - real | +0.0 (+0.0 to +0.0)" in text
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert drawn == [
        f"truth_{name}.png" for name in ("alone", "effort", "kinds", "main", "variants")
    ]
    for name in drawn:
        with Image.open(tmp_path / "figures" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10
    assert "Balanced accuracy" in text
    (tmp_path / "cells" / "real" / "seed=1.json").unlink()
    incomplete = report.write(tmp_path, tmp_path / "figures", range(3)).read_text()
    assert "Balanced accuracy" not in incomplete
