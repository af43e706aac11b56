"""Against published examples, whose numbers others computed."""

import numpy as np
import pytest

from evaluation import agreement

N = np.nan
# Krippendorff 2011, Computing Krippendorff's alpha-reliability, example C: 4 observers, 12 units.
EXAMPLE_C = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
)
# The usual worked example of Fleiss' kappa: 14 raters, 10 subjects, 5 categories; kappa 0.210.
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_the_published_example(level, alpha):
    assert agreement.krippendorff(EXAMPLE_C, level) == pytest.approx(alpha, abs=5e-4)


def test_fleiss_kappa_of_the_usual_example():
    ratings = np.stack([np.repeat(np.arange(5.0), row) for row in FLEISS], axis=1)
    assert agreement.fleiss(ratings) == pytest.approx(0.210, abs=5e-4)
    unseen = np.full((14, 1), N)
    unseen[0] = 1
    assert agreement.fleiss(np.concatenate([ratings, unseen], axis=1)) == pytest.approx(
        0.210, abs=5e-4
    )


def test_cohen_kappa_by_hand():
    a = np.repeat([1.0, 1, 0, 0], [20, 5, 10, 15])
    b = np.repeat([1.0, 0, 1, 0], [20, 5, 10, 15])
    assert agreement.cohen(a, b) == pytest.approx((0.7 - 0.5) / (1 - 0.5))


def test_what_does_not_exist_is_none():
    same = np.ones((2, 5))
    assert agreement.cohen(*same) is None
    assert agreement.fleiss(same) is None
    assert agreement.fleiss(same[:1]) is None
    assert agreement.krippendorff(same) is None
    assert agreement.krippendorff(np.full((2, 5), N)) is None
    assert agreement.wilson(0, 0)["mean"] is None
    assert agreement.with_interval(agreement.fleiss, np.full((2, 5), N))["mean"] is None


def test_wilson_interval_of_a_published_case():
    """81 of 263: 0.255 to 0.366 (Newcombe 1998, Stat. Med. 17, table I, method 3)."""
    assert agreement.wilson(81, 263)["ci95"] == pytest.approx([0.2553, 0.3662], abs=1e-4)


def test_mean_of_two_shares_as_newcombe_puts_them_together():
    """His table II, (a): 56/70 - 48/80 = 0.2, method 10 0.0524 to 0.3339; b turned round."""
    a, b = agreement.wilson(56, 70), agreement.wilson(80 - 48, 80)
    found = agreement.mean_of_shares(a, b)
    difference = [2 * end - 1 for end in (found["mean"], *found["ci95"])]
    assert difference == pytest.approx([0.2, 0.0524, 0.3339], abs=1e-4)
    whole = agreement.mean_of_shares(agreement.wilson(26, 26), agreement.wilson(40, 40))
    assert whole["ci95"][0] < 0.95 < whole["ci95"][1] == pytest.approx(1.0)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        truth = rng.random(120) < 0.5
        flips = rng.random((2, 120)) < 0.1
        ratings = (truth ^ flips).astype(float)
        low, high = agreement.with_interval(
            lambda two: agreement.cohen(*two), ratings, resamples=200, seed=trial
        )["ci95"]
        # P(agree) = 0.82, by chance 0.5.
        covered += low <= 0.64 <= high
    assert 87 <= covered <= 100
