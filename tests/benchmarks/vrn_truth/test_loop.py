"""A study's cells from the loop's own networks, tiny ones, and the report of their results."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import cells
from benchmarks.vrn_truth import (
    bench,
    generator,
    marks,
    pools,
    report,
    results,
    setting,
    studies,
    transfer,
)
from data.builders.phantom import faults
from launch import stage


@pytest.fixture(scope="module")
def config():
    made = setting.get_config()
    made.data.real_per_class = 8
    made.gan.width, made.gan.steps, made.gan.checkpoint_every = 4, 4, 2
    made.features.width, made.features.steps = 4, 10
    made.vrn.width, made.vrn.steps, made.vrn.depth = 4, 40, 10
    made.target.width, made.target.steps = 4, 2
    return made


@pytest.fixture(scope="module")
def measured(config, tmp_path_factory):
    return bench.Bench(config, tmp_path_factory.mktemp("truth"), 1)


@pytest.fixture
def small(monkeypatch):
    """Pools of a few images."""
    for module, sizes in (
        (studies, {"_FIRST": 60, "_SECOND": 40, "EFFORT": 60}),
        (generator, {"_FIRST": 40, "_SECOND": 40, "_ANNOTATED": 40}),
    ):
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)
    studies._pools.cache_clear()
    yield
    studies._pools.cache_clear()


def test_a_vrn_learns_what_an_expert_says_and_nothing_from_noise(measured):
    first, second = pools.first(1, 80, 0.5, ["blank"]), pools.second(1, 40, 0.5, ["blank"])
    verdicts = first.sound.astype(np.int8)
    score = bench.train(measured, first.records, verdicts).score(second.records)
    assert score[second.sound].min() > score[~second.sound].max()
    again = bench.train(measured, first.records, verdicts).score(second.records)
    np.testing.assert_array_equal(score, again)


def test_what_one_vrn_changes_is_not_there_for_the_next(measured, monkeypatch):
    class BegunError(Exception):
        """Ends a training where it would begin."""

    def classifier(config, section):
        assert (config.vrn.lr, config.vrn.blur) == (1e-4, 0.0)
        raise BegunError

    monkeypatch.setattr(bench, "_classifier", classifier)
    first = pools.first(1, 40, 0.5, ["blank"])
    before = measured.config.to_dict()
    with pytest.raises(BegunError):
        bench.train(measured, first.records, first.sound.astype(np.int8), lr=1e-4, blur=0.0)
    assert measured.config.to_dict() == before


def test_filters_are_the_loops_and_the_oracle_keeps_what_is_sound(measured):
    pool = pools.second(1, 80, 0.5, ["blank"])
    described = measured.space.describe(pool.records)
    scores = bench.filter_scores(measured, pool, described, np.zeros(80))
    assert set(scores) == {*measured.config.filter.names, "oracle"}
    assert pool.sound[bench.keep(measured.config, pool.records, scores["oracle"])].all()
    kept = bench.keep(measured.config, pool.records, scores["knn"])
    np.testing.assert_array_equal(np.bincount(pool.records.labels[kept]), [10] * 4)
    # A grey image is far from every real one: the loop's own density filter sees that.
    assert pool.sound[kept].mean() > 0.9


def test_filters_and_annotators_of_a_cell(measured, small):
    main = studies.STUDIES["main"][1](measured, family="texture", rate=0.3)
    assert set(main["accuracy"]) == {*results.FILTERS, "unfiltered"}
    assert set(main["annotators"]) == set(studies.AUTOMATIC)
    assert set(main["filters"]["vrn"]["auc_by_kind"]) == {"checkerboard", "blur", "blank"}
    assert main["filters"]["oracle"]["auc"] == 1


def test_a_trace_that_all_see_is_learnt_instead_of_the_faults(measured, small, monkeypatch):
    faint = studies.STUDIES["noise"][1](measured, family="absurd", variant="two who agree")
    monkeypatch.setitem(marks.MARKS, "coarse", lambda images: np.clip(images + 1, -1, 1))
    trap = studies.STUDIES["trap"][1]
    bright = trap(measured, trace="coarse", guard="whole", positives="real")
    assert faint["auc_real_sound"] < 0.8 < 0.95 < bright["auc_real_sound"]


def test_the_generators_of_two_steps_are_measured(measured, small):
    found = generator.measure(measured)["faults"]
    assert found["pool"] != found["earlier pool"]
    assert found["real"]["any"] < 0.1 < found["pool"]["any"]  # four steps make no phantom


def test_faults_in_the_images_of_a_generator(measured):
    pool = transfer.spoiled(measured, "second", 40, "later", 0.5)
    plain = generator.samples(measured, "second", 40)
    kind = [faults.KINDS[k] if k >= 0 else "sound" for k in pool.kind]
    assert kind.count("sound") == 20
    assert min(kind.count(name) for name in transfer.KINDS) >= 4
    before, after = plain.images.astype(int), pool.records.images.astype(int)
    for i, name in enumerate(kind):
        wanted = before[i, :, ::-1] if name == "wrong_laterality" else before[i]
        changed = np.abs(after[i] - wanted).max() > 20  # of 255
        assert changed == (name in ("two_hearts", "mangled_lung")), (i, name)
    earlier = transfer.spoiled(measured, "second", 40, "earlier", 0.5)
    np.testing.assert_array_equal(earlier.kind, pool.kind)
    assert (earlier.records.images != pool.records.images).any((1, 2, 3)).all()


def test_a_vrn_of_one_checkpoint_is_measured_on_both(measured, small):
    found = studies.STUDIES["transfer"][1](measured, learnt="earlier", positives="real")
    for name in transfer.CHECKPOINTS:
        assert set(found[name]["filters"]["vrn"]["auc_by_kind"]) == set(transfer.KINDS)
        assert found[name]["filters"]["oracle"]["auc"] == 1
    assert found["earlier"] != found["later"]


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

    def result_of(cell):
        one = result(cell)
        return dict.fromkeys(transfer.CHECKPOINTS, one) if cell.study == "transfer" else one

    every = studies.cells([name for name in studies.STUDIES if name != "generator"], range(3))
    cells.run(every, tmp_path, "key", result_of)
    text = report.write(tmp_path, tmp_path / "figures", range(3)).read_text()
    # Mean of 0.5, 0.6, 0.7; half the width is 4.3027 * 0.1 / sqrt(3).
    assert "| knn | 0.60 (0.35 to 0.85)" in text
    assert "| vrn - real | +0.0 (+0.0 to +0.0)" in text
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert drawn == [
        f"truth_{name}.png"
        for name in ("alone", "effort", "kinds", "main", "transfer", "trap", "variants")
    ]
    for name in drawn:
        with Image.open(tmp_path / "figures" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10
    assert "Balanced accuracy" in text
    assert f"| 15 | 0 | 0 | {stage.code()} |" in text  # cells of a study, seconds, commit
    (tmp_path / "cells" / "real" / "seed=1.json").unlink()
    incomplete = report.write(tmp_path, tmp_path / "figures", range(3)).read_text()
    assert "Balanced accuracy" not in incomplete
