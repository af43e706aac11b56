import json

import numpy as np
import pytest

from evaluation import classification, statistics


def arm(skill: float, seeds: int = 3, count: int = 300, seed: int = 0):
    """Three-class outcomes on one set of test images; higher skill, better probabilities."""
    labels = np.random.default_rng(99).integers(0, 3, count)
    rng = np.random.default_rng(seed)
    outcomes = []
    for _ in range(seeds):
        odds = np.exp(rng.normal(size=(count, 3)) + skill * np.eye(3)[labels])
        outcomes.append((odds / odds.sum(1, keepdims=True), labels))
    return outcomes


def test_means_and_seeds_are_the_plain_metrics():
    arms = {"vrn": arm(2.0), "real": arm(1.0, seed=1)}
    found = json.loads(json.dumps(statistics.summarise(arms, resamples=50), allow_nan=False))
    for name, outcomes in arms.items():
        plain = [classification.metrics(*outcome) for outcome in outcomes]
        for metric, value in found["arms"][name].items():
            assert value["seeds"] == pytest.approx([one[metric] for one in plain])
            assert value["mean"] == pytest.approx(np.mean(value["seeds"]))
            assert value["ci95"][0] <= value["mean"] <= value["ci95"][1]
    paired = found["paired"]["vrn-real"]["auc"]
    expected = found["arms"]["vrn"]["auc"]["mean"] - found["arms"]["real"]["auc"]["mean"]
    assert paired["mean"] == pytest.approx(expected)
    assert paired["ci95"][0] > 0


def test_interval_of_one_seed_is_the_binomial_one():
    found = statistics.summarise({"vrn": arm(1.0, seeds=1, count=900)}, resamples=4000)
    value = found["arms"]["vrn"]["accuracy"]
    error = np.sqrt(value["mean"] * (1 - value["mean"]) / 900)
    assert np.ptp(value["ci95"]) == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_interval_over_seeds_adds_their_spread():
    """Seeds that are all right or all wrong: images add nothing, the rest is binomial."""
    labels = np.zeros(50, int)
    right, wrong = (np.tile([p, 1 - p], (50, 1)) for p in (0.9, 0.1))
    outcomes = [(probs, labels) for probs in [right] * 8 + [wrong] * 8]
    value = statistics.summarise({"vrn": outcomes}, resamples=4000)["arms"]["vrn"]["accuracy"]
    assert value["mean"] == 0.5
    assert np.ptp(value["ci95"]) == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 16), abs=0.07)


def test_seeds_of_one_generator_are_drawn_together():
    labels = np.zeros(50, int)
    right, wrong = (np.tile([p, 1 - p], (50, 1)) for p in (0.9, 0.1))
    arms = {"vrn": [(probs, labels) for probs in (right, right, right, wrong, wrong, wrong)]}
    value = statistics.summarise(arms, seed_groups=np.array([0, 0, 0, 1, 1, 1]))
    # Two generators: one resample in four holds the better one only, one the worse one only.
    assert value["arms"]["vrn"]["accuracy"]["ci95"] == [0, 1]


def test_an_arm_does_not_differ_from_its_twin():
    found = statistics.summarise({"vrn": arm(1.0), "twin": arm(1.0)}, resamples=50)
    for value in found["paired"]["vrn-twin"].values():
        assert value == {"mean": 0.0, "ci95": [0.0, 0.0]}


def test_pairing_narrows_the_difference():
    """Two arms that agree but for a few images differ by far less than each may vary."""
    first = arm(1.0)
    second = [(probs.copy(), labels) for probs, labels in first]
    for probs, _ in second:
        probs[:5] = probs[5:10]
    found = statistics.summarise({"vrn": first, "other": second}, resamples=500)
    alone = np.ptp(found["arms"]["vrn"]["accuracy"]["ci95"])
    assert np.ptp(found["paired"]["vrn-other"]["accuracy"]["ci95"]) < 0.5 * alone


def test_images_of_a_patient_are_drawn_together():
    probs, labels = arm(1.0, seeds=1, count=400)[0]
    twins = {"vrn": [(np.repeat(probs, 4, axis=0), np.repeat(labels, 4))]}
    once = statistics.summarise({"vrn": [(probs, labels)]}, resamples=3000)
    grouped = statistics.summarise(twins, groups=np.repeat(np.arange(400), 4), resamples=3000)
    naive = statistics.summarise(twins, resamples=3000)
    width = [np.ptp(found["arms"]["vrn"]["accuracy"]["ci95"]) for found in (once, grouped, naive)]
    assert width[1] == pytest.approx(width[0], rel=0.08)
    assert width[2] == pytest.approx(width[0] / 2, rel=0.08)


def test_rare_and_absent_classes_do_not_break_the_numbers():
    probs, labels = arm(1.0, seeds=1, count=60)[0]
    labels = np.where(labels == 2, 1, labels)
    labels[0] = 2  # one image: absent from about a third of the resamples
    found = statistics.summarise({"vrn": [(probs, labels)]}, resamples=200)
    assert found["arms"]["vrn"]["recall/2"]["mean"] in (0.0, 1.0)
    labels[0] = 0
    found = statistics.summarise({"vrn": [(probs, labels)]}, resamples=200)
    assert found["arms"]["vrn"]["recall/2"] == {"mean": None, "ci95": [None] * 2, "seeds": [None]}
    assert found["arms"]["vrn"]["balanced_accuracy"]["mean"] is not None
    json.dumps(found, allow_nan=False)


def test_the_bootstrap_follows_its_seed():
    arms = {"vrn": arm(1.0), "real": arm(0.5, seed=1)}
    first, again, other = (statistics.summarise(arms, resamples=50, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_arms_must_share_seeds_and_images():
    with pytest.raises(ValueError, match="2 seeds and others 3"):
        statistics.summarise({"vrn": arm(1.0), "real": arm(1.0, seeds=2)})
    shuffled = [(probs, labels[::-1]) for probs, labels in arm(1.0)]
    with pytest.raises(ValueError, match="other images"):
        statistics.summarise({"vrn": arm(1.0), "real": shuffled})
    with pytest.raises(ValueError, match="at least one seed"):
        statistics.summarise({"vrn": []})
    with pytest.raises(ValueError, match="299 groups"):
        statistics.summarise({"vrn": arm(1.0)}, groups=np.zeros(299))
    assert statistics.summarise({"real": arm(1.0)}, resamples=20)["paired"] == {}
