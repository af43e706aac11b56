"""Localisation against hand-made cases, plain loops and scikit-learn."""

import collections

import numpy as np
import pytest
from sklearn.cluster import KMeans

from evaluation import localisation


def square(maps, image, top, left, value, side=4):
    maps[image, top : top + side, left : left + side] = value


@pytest.fixture
def scene():
    """Three images: two lesions, one lesion, none. Candidates by hand."""
    masks = np.zeros((3, 20, 20), bool)
    square(masks, 0, 2, 2, True)
    square(masks, 0, 12, 12, True)
    square(masks, 1, 5, 5, True)
    maps = np.zeros((3, 20, 20))
    square(maps, 0, 2, 2, 0.9)  # hits the first lesion
    square(maps, 0, 2, 12, 0.8)  # false
    square(maps, 0, 13, 3, 0.7, side=3)  # nine places: too small
    square(maps, 1, 6, 6, 0.6)  # its centre lies in the lesion
    square(maps, 1, 12, 12, 0.5)  # false
    square(maps, 2, 3, 3, 0.95)  # false
    return maps, masks


def test_hits_and_false_candidates_by_hand(scene):
    maps, masks = scene
    found = localisation.find(maps, maps > 0.1, masks)
    np.testing.assert_array_equal(found.lesions, [2, 1, 0])
    assert list(zip(found.hit_image, found.hit_score, strict=True)) == [(0, 0.9), (1, 0.6)]
    false = list(zip(found.false_image, found.false_score, strict=True))
    assert false == [(0, 0.8), (1, 0.5), (2, 0.95)]


def test_a_centroid_outside_its_own_component_is_no_hit():
    masks = np.zeros((1, 20, 20), bool)
    masks[0, 2:13, 2:4] = True
    ring = np.zeros((1, 20, 20))
    ring[0, 2:13, 2:13] = 1.0
    ring[0, 4:11, 4:11] = 0.0  # its centroid, in the hole, is not in the lesion
    found = localisation.find(ring, ring > 0, masks)
    assert (len(found.hit_score), len(found.false_score)) == (0, 1)


def test_diagonal_neighbours_are_one_candidate_and_a_second_hit_counts_once():
    masks = np.zeros((1, 20, 20), bool)
    masks[0, :16, :16] = True
    maps = np.zeros((1, 20, 20))
    square(maps, 0, 1, 1, 0.5)
    square(maps, 0, 5, 5, 0.6)
    square(maps, 0, 11, 1, 0.3)
    found = localisation.find(maps, maps > 0, masks)
    assert found.hit_score.tolist() == [0.6]
    assert len(found.false_score) == 0
    apart = localisation.find(maps, maps > 0, np.zeros_like(masks))
    assert sorted(apart.false_score.tolist()) == [0.3, 0.6]


def test_the_curve_by_hand(scene):
    maps, masks = scene
    found = localisation.find(maps, maps > 0.1, masks)
    false, sensitivity = localisation.froc(found)
    # From the highest score down: false .95, hit .9, false .8, hit .6, false .5.
    np.testing.assert_allclose(false[0], np.array([0, 1, 1, 2, 2, 3]) / 3)
    np.testing.assert_allclose(sensitivity[0], np.array([0, 0, 1, 1, 2, 2]) / 3)
    expected = {0.3: 0, 1 / 3: 1 / 3, 0.5: 1 / 3, 1.0: 2 / 3}
    told = localisation.sensitivity_at(found, tuple(expected), resamples=20)
    assert {rate: one["mean"] for rate, one in told.items()} == pytest.approx(expected)


def flood(mask):
    """Components by breadth-first search: list of sets of places."""
    left, parts = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        queue, part = collections.deque([left.pop()]), set()
        while queue:
            y, x = queue.popleft()
            part.add((y, x))
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if (near := (y + dy, x + dx)) in left:
                        left.remove(near)
                        queue.append(near)
        parts.append(part)
    return parts


def brute(maps, binary, masks, rate, images, least=10):
    """Sensitivity at a rate, trying every score as the threshold; `images` may repeat."""
    scores, best = {0.0}, 0.0
    told = []
    for i in images:
        lesions = flood(masks[i])
        parts = []
        for part in flood(binary[i]):
            if len(part) > least:
                centre = tuple(round(float(np.mean(axis))) for axis in zip(*part, strict=True))
                parts.append((max(maps[i][p] for p in part), centre))
        scores |= {value for value, _ in parts}
        told.append((lesions, parts))
    total = sum(len(lesions) for lesions, _ in told)
    for threshold in scores:
        hits = false = 0
        for lesions, parts in told:
            kept = [centre for value, centre in parts if value >= threshold]
            hits += sum(any(centre in lesion for centre in kept) for lesion in lesions)
            false += sum(not any(centre in lesion for lesion in lesions) for centre in kept)
        if false / len(told) <= rate:
            best = max(best, hits / total)
    return best


def blobs(seed, count=12):
    """Smooth random maps and masks that agree in part."""
    rng = np.random.default_rng(seed)
    truth, noise = (rng.normal(size=(count, 32, 32)) for _ in range(2))
    for field in (truth, noise):
        for _ in range(12):
            for axis in (1, 2):
                field += np.roll(field, 1, axis) + np.roll(field, -1, axis)
                field /= 3
    truth, noise = truth / truth.std(), noise / noise.std()
    return np.round(truth + noise, 2), truth > 1.2


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0, 2.0])
def test_sensitivity_is_that_of_loops(rate):
    maps, masks = blobs(0)
    binary = maps > 1.0
    found = localisation.find(maps, binary, masks)
    assert 0 < len(found.hit_score) < found.lesions.sum()
    got = localisation.sensitivity_at(found, (rate,), resamples=5)[rate]["mean"]
    assert got == pytest.approx(brute(maps, binary, masks, rate, range(12)))


def test_weights_are_repetitions():
    maps, masks = blobs(1)
    binary = maps > 1.0
    found = localisation.find(maps, binary, masks)
    weights = np.random.default_rng(2).multinomial(12, np.full(12, 1 / 12), 3).astype(float)
    false, sensitivity = localisation.froc(found, weights)
    for row, weight in enumerate(weights):
        images = np.repeat(np.arange(12), weight.astype(int))
        got = sensitivity[row][false[row] <= 1.0].max()
        assert got == pytest.approx(brute(maps, binary, masks, 1.0, images))


def test_the_interval_draws_patients():
    maps, masks = blobs(3)
    found = localisation.find(maps, maps > 1.0, masks)
    patients = np.repeat(np.arange(3), 4)
    told = localisation.sensitivity_at(found, (1.0,), patients, resamples=200)[1.0]
    low, high = told["ci95"]
    assert low <= told["mean"] <= high
    assert low < high


def test_two_means_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    for seed in range(5):
        image = rng.gamma(1.0, size=(16, 16))
        image[4:8, 4:8] += 3.0
        start = np.linspace(image.min(), image.max(), 3)[:, None]
        theirs = KMeans(3, init=start, n_init=1, tol=0).fit(image.reshape(-1, 1))
        brightest = theirs.labels_ == theirs.cluster_centers_[:, 0].argmax()
        got = localisation.two_means(image, colours=3)
        np.testing.assert_array_equal(got.ravel(), brightest, err_msg=str(seed))
    assert not localisation.two_means(np.full((4, 4), 0.3)).any()
    clear = np.zeros((4, 4))
    clear[1:3, 1:3] = 1
    np.testing.assert_array_equal(localisation.two_means(clear), clear > 0)


def test_the_threshold_that_separates_is_chosen():
    masks = np.zeros((8, 32, 32), bool)
    maps = np.random.default_rng(0).random((8, 32, 32)) * 0.5
    for i in range(8):
        square(masks, i, 3 * i, 4, True, side=6)
        square(maps, i, 3 * i, 4, 0.8, side=6)
    threshold = localisation.choose_threshold(maps, masks)
    assert threshold < 0.8
    found = localisation.find(maps, maps > threshold, masks)
    assert localisation.sensitivity_at(found, (0.5,), resamples=5)[0.5]["mean"] == 1
    # Lower down, the noise hangs together and with the lesions.
    low = localisation.find(maps, maps > 0.25, masks)
    assert localisation.sensitivity_at(low, (0.5,), resamples=5)[0.5]["mean"] < 1


def test_among_thresholds_that_find_alike_the_outline_counts():
    masks, maps = np.zeros((4, 32, 32), bool), np.zeros((4, 32, 32))
    for i in range(4):
        square(maps, i, 3 * i, 4, 0.3, side=8)
        square(maps, i, 3 * i + 1, 5, 0.9, side=6)
        square(masks, i, 3 * i + 1, 5, True, side=6)
    assert 0.3 <= localisation.choose_threshold(maps, masks) < 0.9


def test_precision_and_overlap_by_hand():
    masks = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 0]]], bool)
    maps = np.array([[[0.9, 0.2, 0.8, 0.1]], [[0.0, 0.0, 0.3, 0.0]]])
    # Places by value: hit (1/1), miss, miss, hit (2/4).
    assert localisation.pixel_ap(maps, masks) == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert localisation.dice(maps > 0.5, masks) == pytest.approx(2 * 1 / (2 + 2))


def test_volumes_are_located_too():
    masks = np.zeros((1, 8, 8, 8), bool)
    masks[0, 2:5, 2:5, 2:5] = True
    found = localisation.find(masks * 0.7, masks, masks)
    assert (found.hit_score.tolist(), found.lesions.tolist()) == ([0.7], [1])
