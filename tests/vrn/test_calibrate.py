import json

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from data.errors import UserError
from vrn import calibrate


def judged(count: int, seed: int, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident logits: the truth follows sigmoid(logit / scale + 0.3)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 6, count)
    return logits, (rng.random(count) < special.expit(logits / scale + 0.3)).astype(int)


@pytest.mark.parametrize("method", calibrate.METHODS)
def test_calibration_mends_overconfident_logits(method):
    parts = judged(600, 0), judged(600, 1)
    found = calibrate.calibrate(*parts[0], *parts[1], method=method)
    found = json.loads(json.dumps(found, allow_nan=False))
    logits, truth = parts[1]
    prob = calibrate.apply(found, logits)
    raw = np.mean((special.expit(logits) - truth) ** 2)
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(truth, prob))
    assert found["brier"] < raw - 0.01
    assert found["ece"] < 0.08
    assert found["auc_within_synthetic"] == pytest.approx(metrics.roc_auc_score(truth, logits))
    low, high = found["auc_ci95"]
    assert low < found["auc_within_synthetic"] < high
    accepted = logits >= found["operating_point"]["logit"]
    assert found["acceptance_rate"] == pytest.approx(metrics.recall_score(truth, accepted))
    expected = metrics.recall_score(truth, accepted, pos_label=0)
    assert found["rejection_rate"] == pytest.approx(expected)
    assert sum(found["reliability"]["count"]) == 600
    assert found["counts"]["measurement"] == [600 - truth.sum(), truth.sum()]
    assert np.all(np.diff(calibrate.apply(found, np.linspace(-30, 30, 200))) >= 0)


def test_operating_point_has_the_best_balanced_accuracy_and_the_widest_gap():
    logits, truth = judged(80, 2)
    point = calibrate.operating_point(logits, truth)
    found = metrics.balanced_accuracy_score(truth, logits >= point)
    everywhere = [*logits, logits.max() + 1]
    best = max(metrics.balanced_accuracy_score(truth, logits >= edge) for edge in everywhere)
    assert found == pytest.approx(best)
    # Cuts at -1 and at 3.5 are equally good; the second lies in the wider gap.
    logits = np.array([-3.0, -2.0, 0.0, 1.0, 6.0, 7.0])
    assert calibrate.operating_point(logits, np.array([0, 0, 1, 0, 1, 1])) == 3.5


def test_perfect_separation_stays_finite():
    logits, truth = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1])
    found = calibrate.calibrate(logits, truth, logits, truth, bins=2)
    assert found["auc_within_synthetic"] == found["acceptance_rate"] == found["rejection_rate"] == 1
    json.dumps(found, allow_nan=False)


def test_bad_input_is_explained():
    logits, truth = judged(20, 3)
    with pytest.raises(UserError, match=r"vrn\.calibration is 'platt'"):
        calibrate.calibrate(logits, truth, logits, truth, method="platt")
    with pytest.raises(ValueError, match="both parts"):
        calibrate.calibrate(logits, truth, logits, np.ones(20, int))
