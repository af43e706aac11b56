import numpy as np
import pytest

from vrn import labels
from vrn.review import consensus
from vrn.review.study import Ratings

N = np.nan


def test_majority_with_ties_unsure():
    scores = np.array(
        [
            [1, 1, 0, 1, 0.5, N, 0.75],
            [1, 0, 0, 0.5, 0.5, N, 0.25],
            [0, 0, 1, N, N, N, N],
        ]
    )
    np.testing.assert_array_equal(consensus.verdicts(scores, "majority"), [1, 0, 0, 1, -1, -1, -1])


def test_weights_let_two_who_agree_outvote_nobody_and_one_who_guesses_count_little():
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    good = [truth ^ (rng.random(400) < 0.05) for _ in range(2)]
    guesses = [rng.random(400) < 0.5 for _ in range(3)]
    scores = np.array([*good, *guesses], float)
    weights = consensus.weights(scores)
    assert weights[:2].min() > 2 * weights[2:].max()
    right = {rule: np.mean(consensus.verdicts(scores, rule) == truth) for rule in consensus.RULES}
    assert right["weighted"] > 0.92 > right["majority"]


def test_two_raters_who_disagree_are_unsure_whatever_the_rule():
    scores = np.array([[1.0, 1, 0, 0, 1], [1.0, 0, 0, 0, 1]])
    for rule in consensus.RULES:
        np.testing.assert_array_equal(consensus.verdicts(scores, rule), [1, -1, 0, 0, 1])


def test_nobody_known_counts_alike():
    scores = np.array([[1.0, N], [N, 0.0]])
    np.testing.assert_array_equal(consensus.weights(scores), [1, 1])
    np.testing.assert_array_equal(consensus.verdicts(scores, "weighted"), [1, 0])


@pytest.fixture
def ratings():
    score = np.array([[1, 0, 0.5, 1, 1], [1, 1, 0.0, N, 1]])
    return Ratings(
        sample_id=np.array(["a", "b", "c", "d", "real"]),
        real=np.array([False] * 4 + [True]),
        raters=("ada", "bob"),
        score=score,
        again=np.full((2, 5), N),
        seconds=np.where(np.isnan(score), N, 2.0),
        time=np.where(np.isnan(score), N, [[10.0], [20.0]]),
        all_seconds=[np.full(5, 2.0), np.full(4, 2.0)],
        faults={"ada": {}, "bob": {}},
    )


def test_the_table_has_every_rater_and_what_they_say_together(ratings, tmp_path):
    table = consensus.table(ratings, np.array(["a", "b", "c", "d", "e"]), "majority")
    labels.write_labels(tmp_path / "labels.parquet", table)  # validates
    rows = {
        (str(i), str(r)): str(w)
        for i, r, w in zip(table.sample_id, table.rater, table.label, strict=True)
    }
    good, bad = "real-like", "non-real-like"
    assert rows == {
        ("a", "ada"): good, ("b", "ada"): bad, ("d", "ada"): good,
        ("a", "bob"): good, ("b", "bob"): good, ("c", "bob"): bad,
        # b is a tie; the real image is no image of the pool.
        ("a", "review:majority"): good, ("c", "review:majority"): bad,
        ("d", "review:majority"): good,
    }  # fmt: skip
    together = table.where(table.rater == "review:majority")
    assert together.seconds.tolist() == [4.0, 4.0, 2.0]
    assert together.time.tolist() == [20.0, 20.0, 10.0]
