"""Detection within strata against all pairs, one by one."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation import matched


def by_pairs(scores, diseased, strata):
    """Share of the pairs of one stratum that are in order, and how many there are."""
    ordered, pairs = 0.0, 0
    for i in np.flatnonzero(diseased):
        for j in np.flatnonzero(~diseased):
            if strata[i] == strata[j]:
                pairs += 1
                ordered += 1.0 if scores[i] > scores[j] else 0.5 * (scores[i] == scores[j])
    return (ordered / pairs if pairs else np.nan), pairs


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    strata = rng.integers(0, 4, 120)
    diseased = rng.random(120) < np.array([0.0, 0.2, 0.8, 0.5])[strata]
    scores = np.round(rng.normal(size=120) + strata + 0.7 * diseased, 1)
    return scores, diseased, strata, np.arange(120) // 6


def test_it_is_the_share_of_pairs_in_order(drawn):
    scores, diseased, strata, _ = drawn
    found = matched.auc(scores, diseased, strata, resamples=1)
    mean, pairs = by_pairs(scores, diseased, strata)
    assert found["mean"] == pytest.approx(mean)
    assert found["pairs"] == pairs
    # What the strata tell is no merit: without them it is.
    assert roc_auc_score(diseased, scores) > mean + 0.03
    assert matched.auc(strata, diseased, strata, resamples=1)["mean"] == 0.5
    one = matched.auc(scores, diseased, np.zeros(120, int), resamples=1)["mean"]
    assert one == pytest.approx(roc_auc_score(diseased, scores))


def test_the_interval_is_that_of_patients_drawn_by_hand(drawn):
    scores, diseased, strata, patients = drawn
    found = matched.auc(scores, diseased, strata, patients, resamples=400)["ci95"]
    rng, other = np.random.default_rng(9), []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(patients == p) for p in rng.integers(0, 20, 20)])
        other.append(by_pairs(scores[rows], diseased[rows], strata[rows])[0])
    np.testing.assert_allclose(found, np.nanpercentile(other, [2.5, 97.5]), atol=0.03)


def test_heights_lie_between_the_ends_of_each_patient():
    slices, patients = [3, 9, 5, 1, 2, 7], np.array(["b", "b", "b", "a", "a", "c"])
    height = matched.heights(slices, patients)
    np.testing.assert_allclose(height, [0, 1, 1 / 3, 0, 1, 0.5])
    np.testing.assert_array_equal(matched.binned(height), [0, 9, 3, 0, 9, 5])
    np.testing.assert_array_equal(matched.binned(height, 2), [0, 1, 0, 0, 1, 1])


def test_prevalence_by_hand():
    bins, diseased = np.array([0, 0, 2, 2, 2]), np.array([True, False, True, True, False])
    np.testing.assert_allclose(matched.prevalence(bins, diseased, 4), [1 / 2, 0, 2 / 3, 0])
