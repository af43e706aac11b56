"""Which test images the report shows of maps of disease, and its curves."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import auc, roc_auc_score

from data import tables
from evaluation import detection, localisation
from launch import examples


@pytest.fixture(scope="module")
def judged():
    """40 maps of 12 px, half of them with a lesion, which most of these maps show."""
    rng = np.random.default_rng(0)
    diseased = np.arange(40) % 2 == 0
    masks = np.zeros((40, 12, 12), bool)
    masks[diseased, 3:8, 2:7] = True
    maps = rng.uniform(0, 0.5, masks.shape)
    maps[:30] += 0.4 * masks[:30]
    return maps.astype(np.float32), diseased, masks


def test_rows_are_chosen_by_rank_and_none_twice():
    # Diseased images have even rows; a row's score is a tenth of its number.
    scores, diseased = np.arange(40) / 10, np.arange(40) % 2 == 0
    chosen = examples.choose(scores, diseased)
    assert chosen["missed"].tolist() == [0, 2, 4]
    assert chosen["false"].tolist() == [39, 37, 35]
    # Of 17 others each, those at an eighth, three, five and seven eighths, the highest first.
    assert chosen["diseased"].tolist() == [34, 26, 18, 10]
    assert chosen["healthy"].tolist() == [29, 21, 13, 5]


def test_of_few_images_all_are_shown_once():
    chosen = examples.choose(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, True, False, False]))
    assert chosen["missed"].tolist() == [1, 0]
    assert chosen["false"].tolist() == [2, 3]
    assert len(chosen["diseased"]) == len(chosen["healthy"]) == 0


def test_curves_have_the_areas_of_the_numbers(judged):
    maps, diseased, masks = judged
    found = examples.curves(maps, diseased, "top", masks, threshold=0.45)
    roc, froc = found["roc"], found["froc"]
    expected = roc_auc_score(diseased, detection.score(maps, "top"))
    assert auc(roc["false"], roc["true"]) == pytest.approx(expected, abs=1e-3)
    hits = localisation.find(maps, maps > 0.45, masks)
    for rate in (0.1, 0.3):
        best = max(t for f, t in zip(froc["false"], froc["true"], strict=True) if f <= rate)
        mean = localisation.sensitivity_at(hits, [rate], resamples=2)[rate]["mean"]
        assert best == pytest.approx(mean, abs=1e-4)
    assert "froc" not in examples.curves(maps, diseased, "top")


def test_long_curves_are_thinned_and_keep_their_ends():
    rng = np.random.default_rng(1)
    diseased = np.arange(4000) % 2 == 0
    found = examples.curves(rng.uniform(size=(4000, 2, 2)), diseased, "mean")["roc"]
    assert len(found["false"]) == len(found["true"]) == 200
    assert (found["false"][0], found["true"][0]) == (0, 0)
    assert (found["false"][-1], found["true"][-1]) == (1, 1)


def test_the_file_holds_the_images_and_their_candidates(judged, tmp_path):
    maps, diseased, masks = judged
    images = np.random.default_rng(2).uniform(-1, 1, (*maps.shape, 1)).astype(np.float32)
    examples.keep(
        tmp_path / "some.npz", images=images, maps=maps, diseased=diseased, score="max",
        threshold=0.45, masks=masks, own=None, healthy=-images,
    )  # fmt: skip
    found = tables.map_npz(tmp_path / "some.npz")
    rows, scores = found["row"], maps.reshape(40, -1).max(1)
    assert "own" not in found
    np.testing.assert_array_equal(found["images"], images[rows])
    np.testing.assert_array_equal(found["healthy"], -images[rows])
    np.testing.assert_array_equal(found["masks"], masks[rows])
    np.testing.assert_allclose(found["score"], scores[rows])
    for row, above, candidates in zip(rows, found["above"], found["found"], strict=True):
        assert above == np.mean(scores[~diseased] < scores[row])
        parts, count = ndimage.label(maps[row] > 0.45, np.ones((3, 3)))
        large = [k for k in range(1, count + 1) if (parts == k).sum() > localisation.LEAST_AREA]
        np.testing.assert_array_equal(candidates, np.isin(parts, large))


def test_of_volumes_the_brightest_slice_is_kept(tmp_path):
    maps = np.zeros((4, 5, 3, 3), np.float32)
    brightest = [2, 0, 4, 1]
    maps[np.arange(4), brightest, 1, 1] = 1 + np.arange(4)
    images = np.broadcast_to(np.arange(5.0)[:, None, None, None], (4, 5, 3, 3, 1))
    examples.keep(
        tmp_path / "some.npz", images=images, maps=maps, diseased=np.arange(4) < 2, score="max"
    )
    found = tables.map_npz(tmp_path / "some.npz")
    assert found["images"].shape == (4, 3, 3, 1)
    assert found["images"][:, 0, 0, 0].tolist() == [brightest[row] for row in found["row"]]
    assert found["maps"].max((1, 2)).tolist() == [1 + row for row in found["row"]]
