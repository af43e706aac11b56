import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from evaluation import neighbours


@pytest.mark.parametrize("block", [7, 1000])
def test_nearest_is_scikit_learns(block):
    rng = np.random.default_rng(0)
    x, reference = rng.normal(size=(50, 6)), rng.normal(size=(80, 6))
    expected = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(reference).kneighbors(x)
    found = neighbours.nearest(x, reference, 4, block=block)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-10)
    np.testing.assert_array_equal(found[1], expected[1])


def test_copies_are_at_exactly_zero_even_far_from_the_origin():
    reference = 1e4 + np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    distance, index = neighbours.nearest(reference[[3, 8]], reference)
    assert distance.tolist() == [[0.0], [0.0]]
    assert index.tolist() == [[3], [8]]


def test_own_row_is_excluded_but_a_twin_is_not():
    x = np.array([[0.0], [1.0], [3.0], [3.0]])
    distance, index = neighbours.nearest(x, x, block=3, exclude_self=True)
    assert distance[:, 0].tolist() == [1, 1, 0, 0]
    assert index[:, 0].tolist() == [1, 0, 3, 2]


def test_images_are_flattened_and_too_many_neighbours_refused():
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 1))
    assert neighbours.nearest(x, x, 4)[0].shape == (4, 4)
    with pytest.raises(ValueError, match="4 neighbours among 4"):
        neighbours.nearest(x, x, 4, exclude_self=True)


def test_pairwise_is_the_norm_of_differences():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(9, 4)), rng.normal(size=(5, 4))
    expected = np.linalg.norm(x[:, None] - y[None], axis=2)
    np.testing.assert_allclose(neighbours.pairwise(x, y), expected, atol=1e-12)


def test_blocks_shrink_as_the_reference_grows(monkeypatch):
    rng = np.random.default_rng(4)
    x, reference = rng.normal(size=(40, 5)), rng.normal(size=(300, 5))
    whole = neighbours.nearest(x, reference, 3)
    monkeypatch.setattr(neighbours, "BLOCK_ELEMENTS", 1)
    for one, other in zip(neighbours.nearest(x, reference, 3), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
