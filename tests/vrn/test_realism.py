import numpy as np
import pytest
from scipy import stats

from vrn import realism


def staircase(value: float, calibration: np.ndarray) -> float:
    return (1 + np.sum(calibration >= value)) / (len(calibration) + 1)


def test_p_values_stay_within_one_step_below_the_conformal_staircase():
    rng = np.random.default_rng(0)
    calibration = np.round(rng.gamma(2.0, size=40), 1)  # rounded: with ties
    strange = np.concatenate([[0.0], np.round(rng.gamma(2.0, size=300), 1), calibration, [1e6]])
    exact = np.array([staircase(value, calibration) for value in strange])
    found = realism.p_values(strange, calibration)
    assert np.all(found <= exact + 1e-12)
    assert np.all(found >= exact - 1 / 41 - 1e-12)
    order = np.argsort(strange)
    assert np.all(np.diff(found[order]) <= 1e-12)


def test_p_values_rank_images_beyond_every_real_one():
    found = realism.p_values(np.array([2.0, 3.0, 30.0]), np.array([0.5, 1.0]))
    np.testing.assert_allclose(found, [1 / 6, 1 / 9, 1 / 90])


def test_p_values_of_new_reals_are_uniform():
    rng = np.random.default_rng(1)
    found = [realism.p_values(rng.gamma(2.0, size=1), rng.gamma(2.0, size=15)) for _ in range(600)]
    assert stats.kstest(np.concatenate(found), "uniform").pvalue > 0.01


def test_knn_strangeness_is_the_mean_distance_to_the_class(toy):
    train = toy.reals.train
    found = realism.knn_strangeness(toy.pool, train, k=2)
    for row in (0, 7, 200):
        reals = train.features[train.labels == toy.pool.labels[row]]
        by_hand = np.sort(np.linalg.norm(reals - toy.pool.features[row], axis=1))[:2].mean()
        assert found[row] == pytest.approx(by_hand, rel=1e-5)


def test_a_class_with_few_held_out_reals_can_still_be_rejected():
    rng = np.random.default_rng(2)
    held_out_labels = np.repeat([0, 1], [10, 60])
    held_out = rng.gamma(20.0, size=70) * np.where(held_out_labels == 0, 5.0, 1.0)
    labels = np.array([0, 0, 1])
    strange = np.array([100.0, 190.0, 20.0])  # class 0 is five times as spread out
    found = realism.class_p_values(strange, labels, held_out, held_out_labels, threshold=0.05)
    # Ten reals alone could not say less than 1/11.
    assert found[1] < 0.05
    assert found[0] > 0.2
    own = realism.p_values(strange[2:], held_out[held_out_labels == 1])
    assert found[2] == pytest.approx(own[0])


def test_a_class_without_real_images_is_refused(toy):
    lonely = toy.reals.train.rows(toy.reals.train.labels != 1)
    with pytest.raises(ValueError, match="class 1"):
        realism.knn_strangeness(toy.pool, lonely)
