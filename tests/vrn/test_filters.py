import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from data.errors import UserError
from vrn import filters


@pytest.fixture
def inputs(toy) -> filters.FilterInputs:
    rng = np.random.default_rng(10)
    return filters.FilterInputs(
        pool=toy.pool,
        real=toy.reals.train,
        vrn_score=toy.good + rng.normal(0, 0.5, len(toy.good)),
        discriminator_score=rng.normal(size=len(toy.good)),
        seed=11,
    )


@pytest.mark.parametrize("name", filters.FILTERS)
def test_every_filter_keeps_the_same_count_of_each_class(inputs, name):
    scores, labels = filters.score(name, inputs), inputs.pool.labels
    (kept,) = filters.keep_per_class([(scores, labels)], 37)
    np.testing.assert_array_equal(np.bincount(labels[kept]), [37, 37, 37])


def test_higher_scores_mean_better_images(inputs, toy):
    for name, floor in (("vrn", 0.85), ("knn", 0.8)):
        assert roc_auc_score(toy.good, filters.score(name, inputs)) > floor
    for name in ("random", "discriminator"):
        assert 0.4 < roc_auc_score(toy.good, filters.score(name, inputs)) < 0.6
    order = np.argsort(filters.score("confidence", inputs))
    sure = inputs.pool.probs[np.arange(len(toy.good)), inputs.pool.labels]
    assert np.all(np.diff(sure[order]) >= 0)


def test_the_best_are_kept_and_ties_go_by_order():
    scores = np.array([0.1, 0.9, 0.5, 0.5, 0.5, 0.2, 0.7])
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    (kept,) = filters.keep_per_class([(scores, labels)], 2)
    np.testing.assert_array_equal(np.flatnonzero(kept), [1, 2, 3, 6])
    (none,) = filters.keep_per_class([(scores, labels)], 0)
    assert not none.any()


@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_pieces_keep_what_sorting_the_whole_pool_keeps(pieces):
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 12, 300) / 12.0  # many are equal
    labels = rng.choice(4, 300, p=[0.4, 0.3, 0.2, 0.1])
    expected = np.zeros(300, bool)
    for label in range(4):
        rows = [row for row in range(300) if labels[row] == label]
        expected[sorted(rows, key=lambda row: (-scores[row], row))[:17]] = True
    parts = zip(np.array_split(scores, pieces), np.array_split(labels, pieces), strict=True)
    kept = list(filters.keep_per_class(list(parts), 17))
    assert len(kept) == pieces
    np.testing.assert_array_equal(np.concatenate(kept), expected)


def test_random_follows_the_seed(inputs):
    first, again = filters.score("random", inputs), filters.score("random", inputs)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", filters.FILTERS)
def test_piece_by_piece_gives_the_same_scores(inputs, name):
    whole, pieces = filters.score(name, inputs), []
    for start in range(0, len(inputs.pool), 70):
        rows = slice(start, start + 70)
        piece = dataclasses.replace(
            inputs,
            pool=inputs.pool.rows(rows),
            vrn_score=inputs.vrn_score[rows],
            discriminator_score=inputs.discriminator_score[rows],
            first_row=start,
        )
        pieces.append(filters.score(name, piece))
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-12)


def test_errors_name_the_mend(inputs):
    with pytest.raises(UserError, match="Unknown filter 'oracle'"):
        filters.score("oracle", inputs)
    with pytest.raises(UserError, match=r"asks for 101 images of class 0.*holds 100"):
        list(filters.keep_per_class([(inputs.vrn_score, inputs.pool.labels)], 101))
    inputs.vrn_score[3] = np.nan
    with pytest.raises(UserError, match="1 scores that are not finite"):
        filters.score("vrn", inputs)
