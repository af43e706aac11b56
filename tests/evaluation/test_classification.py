import numpy as np
import pytest
from sklearn import metrics as reference

from evaluation import classification


def outcome(count: int = 200, classes: int = 4, decimals: int = 1, seed: int = 0):
    """Probabilities rounded hard, so that ties abound."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    odds = np.exp(rng.normal(size=(count, classes)) + np.eye(classes)[labels])
    return np.round(odds / odds.sum(1, keepdims=True), decimals), labels


@pytest.mark.parametrize("decimals", [1, 12])
def test_metrics_are_scikit_learns(decimals):
    probs, labels = outcome(decimals=decimals)
    found = classification.metrics(probs, labels)
    predicted = probs.argmax(1)
    aucs = [reference.roc_auc_score(labels == k, probs[:, k]) for k in range(4)]
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    balanced = reference.balanced_accuracy_score(labels, predicted)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    assert found["auc"] == pytest.approx(np.mean(aucs))
    recalls = reference.recall_score(labels, predicted, average=None)
    assert [found[f"recall/{k}"] for k in range(4)] == pytest.approx(recalls.tolist())


def test_weighted_metrics_are_scikit_learns():
    probs, labels = outcome()
    rng = np.random.default_rng(1)
    weights = np.concatenate([rng.poisson(1.0, (3, 200)), rng.random((3, 200))])
    found = classification.metrics_weighted(probs, labels, weights)
    predicted = probs.argmax(1)
    for row, weight in enumerate(weights):
        kept = {"sample_weight": weight}
        aucs = [reference.roc_auc_score(labels == k, probs[:, k], **kept) for k in range(4)]
        recalls = reference.recall_score(labels, predicted, average=None, **kept)
        expected = {
            "accuracy": reference.accuracy_score(labels, predicted, **kept),
            "balanced_accuracy": recalls.mean(),
            "auc": np.mean(aucs),
            **{f"recall/{k}": recalls[k] for k in range(4)},
        }
        assert {name: value[row] for name, value in found.items()} == pytest.approx(expected)


def test_a_class_without_images_is_left_out():
    probs, labels = outcome()
    labels[labels == 3] = 2
    found = classification.metrics(probs, labels)
    assert "recall/3" not in found
    balanced = reference.recall_score(labels, probs.argmax(1), average=None, labels=range(3)).mean()
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    by_weight = classification.metrics_weighted(probs, labels, (labels != 0)[None].astype(float))
    assert np.isnan(by_weight["recall/0"][0])
    assert np.isfinite(by_weight["auc"][0])


def test_auc_by_hand():
    # Two of the four pairs are won, one is a draw.
    assert classification.auc(np.array([1.0, 2, 2, 3]), np.array([1, 0, 1, 0])) == 0.125
    assert classification.auc(np.array([0.0, 0, 0]), np.array([1, 0, 1])) == 0.5
    assert np.isnan(classification.auc(np.array([0.0, 1.0]), np.array([1, 1])))


def test_bad_input_is_refused():
    probs, labels = outcome()
    with pytest.raises(ValueError, match="same images"):
        classification.metrics(probs, labels[:-1])
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        classification.metrics(probs, labels - 1)
    probs[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        classification.metrics(probs, labels)
