import json

import numpy as np
import pytest

from evaluation import memorisation


@pytest.fixture
def sets() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "fakes": rng.normal(size=(400, 5)),
        "train": rng.normal(size=(300, 5)),
        "held_out": rng.normal(size=(300, 5)),
    }


def test_independent_samples_are_innocent(sets):
    found = memorisation.memorisation(**sets)
    assert found["ratio_median"] == pytest.approx(1, abs=0.06)
    assert found["duplicate_share"] < 0.03
    assert found["authentic_share"] == pytest.approx(found["authentic_share_held_out"], abs=0.1)
    json.dumps(found, allow_nan=False)


def test_copies_are_found_one_by_one(sets):
    copies = np.arange(0, 400, 20)
    sets["fakes"][copies] = sets["train"][:20]
    found = memorisation.memorisation(**sets)
    assert sorted(found["suspects"]) == copies.tolist()
    assert [found["suspects_nearest"][found["suspects"].index(row)] for row in copies] == list(
        range(20)
    )
    assert found["suspects_distance"] == [0.0] * 20
    assert found["duplicate_share"] > 0.05


def test_near_copies_of_everything_move_every_number(sets):
    rng = np.random.default_rng(1)
    sets["fakes"] = sets["train"][rng.integers(0, 300, 400)] + rng.normal(0, 0.05, (400, 5))
    found = memorisation.memorisation(**sets)
    assert found["ratio_median"] < 0.3
    assert found["duplicate_share"] > 0.9
    assert found["authentic_share"] < 0.05


def test_unequal_set_sizes_do_not_look_like_copying(sets):
    sets["held_out"] = sets["held_out"][:40]
    naive = memorisation.nearest(sets["fakes"], sets["train"])[0]
    naive = np.median(naive / memorisation.nearest(sets["fakes"], sets["held_out"])[0])
    assert naive < 0.85
    ratios = memorisation.nearest_ratio(**sets, repeats=20)
    assert np.median(ratios) == pytest.approx(1, abs=0.12)


def test_authenticity_by_hand():
    train = np.array([[0.0], [1.0], [5.0]])
    # The radii of the training points are 1, 1 and 4.
    fakes = np.array([[-0.5], [-1.5], [2.5], [8.0]])
    np.testing.assert_array_equal(memorisation.authentic(fakes, train), [False, True, True, False])


def test_duplicate_threshold_is_the_quantile_of_new_reals():
    train, held_out = np.zeros((1, 1)), np.arange(1.0, 102.0)[:, None]
    assert memorisation.duplicate_threshold(train, held_out) == pytest.approx(2.0)


def test_images_are_flattened():
    rng = np.random.default_rng(2)
    images = {name: rng.normal(size=(30, 4, 4, 1)) for name in ("fakes", "train", "held_out")}
    assert len(memorisation.memorisation(**images, suspects=7)["suspects"]) == 7
