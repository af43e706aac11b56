"""Detection by maps against hand-made cases, scikit-learn and loops."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation import detection


def test_scores_by_hand():
    maps = np.zeros((2, 10, 20))
    maps[0, 3, 4], maps[0, 5, 6], maps[0, 7, 8] = 4.0, 2.0, 1.0
    maps[1] = 0.5
    np.testing.assert_array_equal(detection.score(maps, "max"), [4.0, 0.5])
    np.testing.assert_allclose(detection.score(maps, "mean"), [7 / 200, 0.5])
    np.testing.assert_allclose(detection.score(maps, "top"), [3.0, 0.5])  # two places of 200
    with pytest.raises(ValueError, match="unknown score 'median'"):
        detection.score(maps, "median")


def test_auc_is_that_of_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    diseased = rng.random(80) < 0.4
    scores = np.round(rng.normal(size=80) + diseased, 1)
    assert len(set(scores.tolist())) < 60
    found = detection.auc(scores, diseased, resamples=500)
    assert found["mean"] == pytest.approx(roc_auc_score(diseased, scores))
    # Against a bootstrap by hand with other random numbers.
    other = []
    for _ in range(500):
        rows = rng.integers(0, 80, 80)
        other.append(roc_auc_score(diseased[rows], scores[rows]))
    np.testing.assert_allclose(found["ci95"], np.percentile(other, [2.5, 97.5]), atol=0.03)


def test_images_of_a_patient_are_drawn_together():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(20), 6)
    diseased = patients % 2 == 1
    scores = (rng.normal(size=20) + (np.arange(20) % 2))[patients]
    alone = detection.auc(scores, diseased, resamples=400)["ci95"]
    together = detection.auc(scores, diseased, patients, resamples=400)["ci95"]
    # Six copies of an image tell no more than one.
    assert np.ptp(together) > 1.8 * np.ptp(alone)


def test_the_kind_is_chosen_by_auc():
    rng = np.random.default_rng(2)
    diseased = np.arange(40) % 2 == 1
    maps = rng.random((40, 16, 16)) * 0.1
    maps[:, 0, 0] = rng.random(40)  # spoils the largest value
    maps[diseased, 4:12, 4:12] += 0.05
    assert detection.choose(maps, diseased) == "mean"
    small = rng.random((40, 16, 16)) * np.linspace(1, 2, 40)[rng.permutation(40), None, None]
    small[diseased, 5, 5] = 3.0
    assert detection.choose(small, diseased) == "max"


def test_change_off_target_by_hand():
    maps = np.zeros((3, 4, 4))
    maps[0, :2, :2], maps[0, 2:] = 1.0, 0.25
    maps[1] = 0.5
    masks = np.zeros((3, 4, 4), bool)
    masks[0, :2, :2] = masks[1, 0] = True  # the third has no lesion
    found = detection.off_target(maps, masks)
    assert found["inside"] == pytest.approx((1.0 + 0.5) / 2)
    assert found["outside"] == pytest.approx((8 * 0.25 / 12 + 0.5) / 2)
    assert found["ratio"] == pytest.approx(found["outside"] / found["inside"])


def test_change_off_target_where_there_is_none():
    maps, masks = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), bool)
    masks[1] = True
    assert set(detection.off_target(maps, masks).values()) == {None}
    masks[0, 0] = True
    maps[0, 1:] = 0.5
    found = detection.off_target(maps, masks)
    assert found == {"inside": 0.0, "outside": 0.5, "ratio": None}
