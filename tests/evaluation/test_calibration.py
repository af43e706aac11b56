from statistics import NormalDist

import numpy as np
import pytest
from scipy import special
from sklearn import calibration as reference
from sklearn import linear_model

from evaluation import calibration


def logits_of(scale: float, bias: float, count: int = 20_000):
    rng = np.random.default_rng(0)
    logit = rng.normal(1.0, 5.0, count)
    return logit, (rng.random(count) < special.expit(scale * logit + bias)).astype(int)


@pytest.mark.parametrize(("scale", "bias"), [(0.25, 0.5), (2.0, -1.0)])
def test_temperature_recovers_the_scale_that_made_the_truth(scale, bias):
    found = calibration.fit_temperature(*logits_of(scale, bias))
    assert found[0] == pytest.approx(scale, rel=0.05)
    assert found[1] == pytest.approx(bias, rel=0.15)


def test_temperature_is_logistic_regression_on_smoothed_targets():
    logit, truth = logits_of(0.3, 0.2, 150)
    ones, zeros = truth.sum(), (1 - truth).sum()
    smooth = np.where(truth == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    both = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.concatenate([logit, logit])[:, None],
        np.repeat([1, 0], 150),
        sample_weight=np.concatenate([smooth, 1 - smooth]),
    )
    expected = (both.coef_[0, 0], both.intercept_[0])
    assert calibration.fit_temperature(logit, truth) == pytest.approx(expected, rel=1e-3)


def test_temperature_never_turns_the_ranking_round():
    logit, truth = logits_of(-1.0, 0.0, 500)
    scale, bias = calibration.fit_temperature(logit, truth)
    assert scale > 0
    assert np.ptp(calibration.apply_temperature(logit, scale, bias)) < 0.01


def test_separated_logits_stay_finite():
    scale, bias = calibration.fit_temperature(np.array([-5.0, -4, 4, 5]), np.array([0, 0, 1, 1]))
    assert np.isfinite([scale, bias]).all()
    prob = calibration.apply_temperature(np.array([-5.0, 5.0]), scale, bias)
    np.testing.assert_allclose(prob, [0.25, 0.75], atol=0.05)


def test_isotonic_is_monotone_and_the_best_such_map():
    logit, truth = logits_of(0.3, 0.0, 400)
    knots, values = calibration.fit_isotonic(logit, truth)
    assert np.all(np.diff(values) >= 0)
    assert values.min() >= 0
    assert values.max() <= 1
    error = np.mean((np.interp(logit, knots, values) - truth) ** 2)
    assert error <= np.mean((special.expit(0.3 * logit) - truth) ** 2)
    assert np.interp([-1e9, 1e9], knots, values).tolist() == [values[0], values[-1]]


def test_reliability_is_scikit_learns_with_equal_counts():
    logit, truth = logits_of(1.0, 0.0, 1000)
    prob = special.expit(logit / 3)
    curve = calibration.reliability(prob, truth, 8)
    observed, predicted = reference.calibration_curve(truth, prob, n_bins=8, strategy="quantile")
    np.testing.assert_allclose(curve["observed"], observed)
    np.testing.assert_allclose(curve["predicted"], predicted)
    assert curve["count"].tolist() == [125] * 8
    expected = np.mean(np.abs(observed - predicted))
    assert calibration.ece(prob, truth, 8) == pytest.approx(expected)


def test_reliability_interval_is_wilsons():
    curve = calibration.reliability(np.full(20, 0.4), np.repeat([1, 0], [5, 15]), 5)
    assert curve["count"].tolist() == [20]  # equal probabilities share one bin
    z = NormalDist().inv_cdf(0.975)
    for edge in (curve["low"][0], curve["high"][0]):
        # The bounds are the p with |0.25 - p| = z * sqrt(p (1 - p) / n).
        assert abs(0.25 - edge) == pytest.approx(z * np.sqrt(edge * (1 - edge) / 20), rel=1e-9)


def test_ece_by_hand():
    prob, truth = np.array([0.1, 0.1, 0.8, 0.8]), np.array([0, 1, 1, 1])
    assert calibration.ece(prob, truth, 2) == pytest.approx((0.4 + 0.2) / 2)
    with pytest.raises(ValueError, match="at least one bin"):
        calibration.ece(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="both kinds"):
        calibration.fit_temperature(prob, np.ones(4))
