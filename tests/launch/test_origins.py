"""Which training image becomes which image of a translated pool."""

import numpy as np
import pytest

from data import records
from data.errors import UserError
from data.pools import FIRST_SEED
from gan.translation import domains
from launch import origins

NAMES = ("healthy", "nodule", "effusion")
PATIENTS, VISITS = 24, 2


def sources(*, names=("shift", "noise"), repeats=3, seed=0, healthy=0, groups=True):
    """Two visits each of 24 patients, 8 of each class; image i is grey i."""
    count = PATIENTS * VISITS
    patient = np.arange(count) // VISITS
    real = records.ArrayRecords(
        np.tile(np.arange(count, dtype=np.uint8)[:, None, None, None], (1, 8, 8, 1)),
        patient % 3,
        [f"image-{i}" for i in range(count)],
        NAMES,
        groups=[f"patient-{p}" for p in patient] if groups else None,
    )
    return real, origins.Sources(
        real, domains.classes(NAMES), healthy, names=names, repeats=repeats, seed=seed
    )


def all_of(pool, per_class):
    """Seeds and labels of a pool, as `launch.generate` counts them."""
    number = np.arange(per_class * len(NAMES))
    return FIRST_SEED[pool] + number, number % len(NAMES)


def test_healthy_becomes_diseased_and_diseased_healthy_and_no_patient_is_in_both_pools():
    real, made = sources()
    row_of = {name: row for row, name in enumerate(real.ids)}
    patients = {}
    for pool in FIRST_SEED:
        seeds, labels = all_of(pool, 16)
        found = made.origins(seeds, labels)
        rows = np.array([row_of[name] for name in found.source_id])
        assert found.domain.tolist() == [NAMES[label] for label in labels]
        assert (real.labels[rows[labels > 0]] == 0).all()
        assert (real.labels[rows[labels == 0]] > 0).all()
        for label in range(3):
            # 8 healthy images and 16 diseased ones are in each pool: 4 of 8 patients a class.
            few = 16 if label == 0 else 8
            of_class = rows[labels == label]
            assert len(set(of_class)) == few
            assert found.repeat[labels == label].tolist() == [i // few for i in range(16)]
            assert len(set(of_class[:few])) == few
        patients[pool] = set(real.groups[rows])
    assert len(patients["first"]) == len(patients["second"]) == PATIENTS // 2
    assert not patients["first"] & patients["second"]


def test_translator_is_given_sources_as_they_are_then_augmented_each_by_its_own_seed():
    real, made = sources()
    row_of = {name: row for row, name in enumerate(real.ids)}
    seeds, labels = all_of("second", 16)
    images, codes = made.inputs(seeds, labels)
    found = made.origins(seeds, labels)
    np.testing.assert_array_equal(codes, np.eye(3)[labels])
    plain = real.read(np.array([row_of[name] for name in found.source_id]))
    changed = (images != plain).any((1, 2, 3))
    np.testing.assert_array_equal(changed, found.repeat > 0)
    # The same whatever goes with it: alone, and in another order.
    order = np.random.default_rng(0).permutation(len(seeds))
    again, _ = made.inputs(seeds[order], labels[order])
    np.testing.assert_array_equal(again, images[order])
    (alone,), _ = made.inputs(seeds[-1:], labels[-1:])
    np.testing.assert_array_equal(alone, images[-1])
    used_twice = images[changed]
    assert len(np.unique(used_twice.reshape(len(used_twice), -1), axis=0)) == len(used_twice)


def test_a_larger_pool_begins_with_the_smaller_one_and_seeds_choose_the_order():
    _, made = sources()
    small, large = all_of("first", 4), all_of("first", 12)
    np.testing.assert_array_equal(made.inputs(*small)[0], made.inputs(*large)[0][: len(small[0])])
    _, other = sources(seed=1)
    assert made.origins(*large).source_id.tolist() != other.origins(*large).source_id.tolist()


def test_images_without_patients_are_divided_one_by_one():
    _, made = sources(groups=False)
    used = {pool: set(made.origins(*all_of(pool, 12)).source_id.tolist()) for pool in FIRST_SEED}
    assert not used["first"] & used["second"]


def test_more_images_than_sources_give_are_refused():
    _, made = sources(repeats=3)
    made.require("first", 24)
    with pytest.raises(UserError) as error:
        made.require("first", 25)
    assert str(error.value) == (
        "the first pool would hold 25 images of 'nodule' and has 8 training images to translate, "
        "each 3 times at most; raise --config.generate.repeats to 4, or lower "
        "--config.generate.first_per_class"
    )
    made.require("first", 12, rounds=2)
    with pytest.raises(
        UserError, match=r"hold 39 images of .* to translate, each 3 .*repeats to 5$"
    ):
        made.require("first", 13, rounds=3)
