import numpy as np
import pytest
from scipy import stats

from data.augment import make_batch, mixing, pipeline
from data.augment.mixing import match_quantiles
from data.augment.streams import RowStream, stream_key

SEED = (4, 11)


@pytest.fixture(params=[(8, 8, 1), (4, 6, 5, 3)])
def store(request, rng):
    images = rng.uniform(-1, 1, (12, *request.param)).astype(np.float32)
    labels = np.arange(12, dtype=np.int32) % 3
    return lambda rows: (images[rows], labels[rows])


def test_another_row_is_any_but_ones_own():
    others = np.array([mixing.other_rows(u) for u in np.random.default_rng(0).random((6000, 5))])
    for row in range(5):
        counts = np.bincount(others[:, row], minlength=5)
        assert counts[row] == 0
        assert stats.chisquare(np.delete(counts, row)).pvalue > 0.01
    assert mixing.other_rows(np.array([0.7])).tolist() == [0]
    assert mixing.other_rows(np.array([0.0, 1 - 2**-24])).tolist() == [1, 0]


@pytest.mark.parametrize("strength", [0.5, 1.0, 5.0])
def test_mixup_weights_are_the_larger_part_of_a_beta_law(strength):
    drawn = RowStream(stream_key((1,)), 0).random((4000,), np.float64)
    weights = mixing.mixup_weights(drawn, strength)
    assert weights.min() >= 0.5
    law = stats.beta(mixing.MIXUP * strength, mixing.MIXUP * strength)
    # Many weights round to 1, where the test asks for a continuous law.
    for weight in (0.55, 0.7, 0.9, 0.99):
        assert np.mean(weights <= weight) == pytest.approx(2 * law.cdf(weight) - 1, abs=0.025)


def test_quantiles_become_those_of_the_reference(rng):
    x = rng.normal(0, 0.2, (4, 40, 50, 2)).astype(np.float32)
    np.testing.assert_allclose(match_quantiles(x, x), x, atol=1e-6)
    # Another scanner's gain and offset are undone, whatever the order of its pixels.
    shuffled = rng.permuted(x.reshape(4, -1, 2), axis=1).reshape(x.shape)
    np.testing.assert_allclose(match_quantiles(x, 0.6 * shuffled - 0.3), 0.6 * x - 0.3, atol=1e-6)
    other = rng.beta(2, 5, (4, 6, 7, 8, 2)).astype(np.float32)
    found = match_quantiles(x, other)
    for i, c in np.ndindex(4, 2):
        before, after, wanted = (np.sort(a[i, ..., c], axis=None) for a in (x, found, other))
        order = np.argsort(x[i, ..., c], axis=None)
        np.testing.assert_array_equal(found[i, ..., c].ravel()[order], after)  # monotone
        deciles = np.linspace(0, 100, 11)
        np.testing.assert_allclose(
            np.percentile(after, deciles), np.percentile(wanted, deciles), atol=2e-3
        )
        # Rank by rank, the exact match.
        ranks = np.interp(np.linspace(0, 1, len(before)), np.linspace(0, 1, len(wanted)), wanted)
        inner = slice(len(before) // 10, -len(before) // 10)
        assert np.abs(after - ranks)[inner].max() < 0.03


def test_the_landmarks_are_numpys_deciles(store):
    x = store(np.arange(12))[0]
    expected = np.quantile(x.reshape(12, -1, x.shape[-1]), np.linspace(0, 1, 11), axis=1)
    np.testing.assert_allclose(mixing._quantiles(x), np.moveaxis(expected, 0, -1), atol=1e-6)


def test_an_empty_background_stays_empty(rng):
    x = np.full((1, 20, 20, 1), -1, np.float32)
    y = x.copy()
    x[0, 5:15] = rng.uniform(-0.5, 0.5, (10, 20, 1))
    y[0, 5:15] = rng.uniform(0, 1, (10, 20, 1))
    found = match_quantiles(x, y)
    assert found[0, 0].max() < -0.75
    np.testing.assert_allclose(np.median(found[0, 5:15]), np.median(y[0, 5:15]), atol=0.1)
    flat = np.full_like(x, 0.3)
    np.testing.assert_allclose(match_quantiles(flat, flat), flat)


def _row(store, row, names, strength, seed=SEED):
    return make_batch(store, np.array([row]), 12, names, strength, seed)


@pytest.mark.parametrize(
    "names", [("mixup",), ("histogram",), ("histogram", "mixup"), ("flip", "noise", "mixup")]
)
def test_a_row_is_the_same_whatever_rows_are_made(store, names):
    whole = make_batch(store, np.arange(12), 12, names, 0.8, SEED)
    again = make_batch(store, np.arange(12), 12, names, 0.8, (4, 12))
    assert (whole["image"] != again["image"]).any()
    some = make_batch(store, np.array([2, 3, 7]), 12, names, 0.8, SEED)
    for key, value in whole.items():
        np.testing.assert_array_equal(some[key], value[[2, 3, 7]])
        for row in range(12):
            np.testing.assert_array_equal(_row(store, row, names, 0.8)[key][0], value[row])


def test_mixup_adds_a_part_of_another_row_as_it_is_augmented_there(store):
    # At strength 1 the Beta law is nearly one-sided, and few rows would be truly mixed.
    mixed = make_batch(store, np.arange(12), 12, ("flip", "noise", "mixup"), 10.0, SEED)
    plain = make_batch(store, np.arange(12), 12, ("flip", "noise"), 10.0, SEED)
    assert set(plain) == {"image", "label"}
    np.testing.assert_array_equal(mixed["label"], plain["label"])
    assert mixed["mix_label"].dtype == np.int32
    assert mixed["mix_weight"].dtype == np.float32
    assert (mixed["mix_weight"] < 0.95).sum() > 5
    flat = plain["image"].reshape(12, -1).astype(float)
    for row, weight in enumerate(mixed["mix_weight"].astype(float)):
        rest = (mixed["image"][row].ravel() - weight * flat[row]) / (1 - weight)
        distance = np.abs(flat - rest).max(axis=1)
        assert distance.min() < 1e-4
        assert distance.argmin() != row
        assert plain["label"][distance.argmin()] == mixed["mix_label"][row]


def test_without_strength_mixup_gives_the_same_keys_and_changes_nothing(store):
    batch = make_batch(store, np.arange(12), 12, ("mixup", "noise", "histogram"), 0.0, SEED)
    np.testing.assert_array_equal(batch["image"], store(np.arange(12))[0])
    np.testing.assert_array_equal(batch["mix_weight"], 1)
    assert set(batch) == {"image", "label", "mix_label", "mix_weight"}


def test_histograms_come_from_other_rows_as_they_are_read(store):
    before = store(np.arange(12))[0]
    found = make_batch(store, np.arange(12), 12, ("histogram", "flip"), 1.0, SEED)["image"]
    unflipped = pipeline.augment(found, ("flip",), 1.0, SEED)
    parts = RowStream(stream_key((*SEED, pipeline.STREAMS["histogram"])), 0).random((12,))
    for row, part in enumerate(parts.reshape(-1, *[1] * (before.ndim - 1))):
        matched = match_quantiles(np.repeat(before[row : row + 1], 12, 0), before)
        candidates = before[row] + part * (matched - before[row])
        distance = np.abs(candidates - unflipped[row]).max(axis=tuple(range(1, before.ndim)))
        assert distance.min() < 1e-5
        assert distance.argmin() != row
