"""Measures beside the truth, counted by hand; and experts whose mistakes are those asked for."""

import numpy as np
import pytest

from benchmarks import cells
from benchmarks.vrn_truth import experts, measures, pools, studies
from data.builders.phantom import faults
from data.errors import UserError

HEARTS, BLUR = (faults.KINDS.index(name) for name in ("two_hearts", "blur"))


def test_a_ranking_counted_by_hand():
    kind = np.array([-1, -1, -1, HEARTS, HEARTS, BLUR])
    scores = np.array([0.9, 0.8, 0.2, 0.85, 0.1, 0.3])
    found = measures.ranking(scores, kind, scores > 0.5)
    # Pairs (sound, faulty) in the right order: 0.9 beats all 3, 0.8 two, 0.2 one, of 9.
    assert found["auc"] == pytest.approx(6 / 9)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["fault_rate"] == pytest.approx(1 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["auc_by_kind"] == pytest.approx({"two_hearts": 4 / 6, "blur": 2 / 3})
    assert found["kept_by_kind"] == {"two_hearts": 0.5, "blur": 0.0}
    assert measures.verdicts(scores, kind)["missed"] == pytest.approx(1 / 3)


def test_intervals_are_students():
    # Mean 2, standard deviation 1, t of 2 degrees of freedom 4.3027 (any table).
    mean, low, high = measures.interval([1, 2, 3])
    assert (mean, low, high) == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), 1e-4)
    assert measures.text([0.101, 0.101], 100, 1, "+") == "+10.1 (+10.1 to +10.1)"


@pytest.fixture(scope="module")
def pool():
    return pools.make(5, 80, 0.5, faults.ABSURD)


def test_an_expert_is_wrong_as_often_as_asked(pool):
    truth = pool.sound.astype(int)
    np.testing.assert_array_equal(experts.annotate(pool, 80), truth)
    verdicts = experts.annotate(pool, 60, wrong=0.2, seed=1)
    assert (verdicts[:60] != truth[:60]).sum() == 12
    assert (verdicts[60:] == -1).all()


def test_what_two_agree_about_is_right_more_often(pool):
    one = experts.annotate(pool, 80, wrong=0.2, seed=1)
    both = experts.agreed(pool, 80, wrong=0.2, seed=1)
    said = both >= 0
    assert 0.5 < said.mean() < 0.8  # both right 0.64, both wrong 0.04
    assert (both != pool.sound)[said].mean() < (one != pool.sound).mean()


def test_cells_are_measured_once(tmp_path):
    done = []

    def measure(cell):
        done.append(cell)
        return {"value": cell.seed}

    wanted = [cells.Cell("toy", {"rate": 0.1}, seed) for seed in range(3)]
    cells.run(wanted[:2], tmp_path, "key", measure)
    assert cells.read(tmp_path, "toy", range(3), rate=0.1) == []  # a seed is missing
    cells.run(wanted, tmp_path, "key", measure)
    assert done == wanted
    assert cells.read(tmp_path, "toy", range(3), rate=0.1) == [{"value": s} for s in range(3)]
    with pytest.raises(UserError, match="another version of this experiment"):
        cells.run(wanted, tmp_path, "other", measure)


def test_every_setting_has_a_file_of_its_own(tmp_path):
    every = studies.cells(list(studies.STUDIES))
    assert len({cell.file(tmp_path) for cell in every}) == len(every)
