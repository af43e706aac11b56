import numpy as np
import pytest

from data.errors import UserError
from vrn.extraction import NotEnoughNegatives, extract, split

MINIMA = {"num_classes": 3, "min_negatives": 30, "min_negatives_per_class": 5}


def annotated(count: int = 300, real_like: float = 0.6):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return np.where(rng.random(count) < 0.1, -1, rng.random(count) < real_like), labels


def test_every_annotated_image_has_one_use():
    verdicts, labels = annotated()
    found = extract(verdicts, labels, **MINIMA)
    np.testing.assert_array_equal(found.accepted, np.flatnonzero(verdicts == 1))
    uses = [found.negatives, found.positives, found.calibration, found.measurement]
    np.testing.assert_array_equal(np.sort(np.concatenate(uses)), np.flatnonzero(verdicts >= 0))
    assert (verdicts[found.negatives] == 0).all()
    assert (verdicts[found.positives] == 1).all()


def test_parts_are_stratified_by_class_and_verdict():
    verdicts, labels = annotated()
    found = extract(verdicts, labels, **MINIMA, shares=(0.5, 0.25, 0.25))
    for label in range(3):
        for kind in (0, 1):
            group = (labels == label) & (verdicts == kind)
            for rows, share in ((found.calibration, 0.25), (found.measurement, 0.25)):
                assert abs(group[rows].sum() - share * group.sum()) < 1


def test_small_groups_go_everywhere_in_proportion():
    groups = np.repeat(np.arange(3000), 1)
    counts = np.bincount(split(groups, (0.6, 0.2, 0.2), seed=0)) / 3000
    np.testing.assert_allclose(counts, [0.6, 0.2, 0.2], atol=0.03)


def test_division_depends_on_the_seed_alone():
    verdicts, labels = annotated()
    first, again, other = (extract(verdicts, labels, **MINIMA, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.negatives, again.negatives)
    assert first.negatives.tolist() != other.negatives.tolist()


def test_enough_counts_the_train_part_only():
    verdicts = np.repeat([0, 1], [60, 60])
    labels = np.arange(120) % 3
    shares = (0.5, 0.25, 0.25)
    extract(verdicts, labels, num_classes=3, min_negatives=30, min_negatives_per_class=10,
            shares=shares)  # fmt: skip
    with pytest.raises(NotEnoughNegatives) as caught:
        extract(verdicts, labels, num_classes=3, min_negatives=31, min_negatives_per_class=1,
                shares=shares)  # fmt: skip
    assert caught.value.counts["negatives"] == 30
    assert caught.value.counts["needed"] == 31
    assert caught.value.counts["per_class"] == [10, 10, 10]
    assert isinstance(caught.value, UserError)


def test_a_class_without_negatives_is_named():
    labels = np.arange(300) % 3
    verdicts = np.where(labels == 2, 1, np.arange(300) // 3 % 2)
    with pytest.raises(NotEnoughNegatives, match=r"0 in class 2.*generate and annotate more"):
        extract(verdicts, labels, **MINIMA)
    extract(verdicts, labels, **(MINIMA | {"min_negatives_per_class": 0}))


@pytest.mark.parametrize(("rare", "name"), [(1, "real-like"), (0, "non-real-like")])
def test_held_out_parts_need_both_kinds(rare, name):
    labels = np.arange(300) % 3
    verdicts = np.full(300, 1 - rare)
    verdicts[:9] = rare
    minima = {"num_classes": 3, "min_negatives": 1, "min_negatives_per_class": 0}
    with pytest.raises(NotEnoughNegatives, match=f" {name} images to calibrate or measure"):
        extract(verdicts, labels, **minima, min_held_out=5)


def test_an_unannotated_pool_is_not_enough():
    with pytest.raises(NotEnoughNegatives, match="0 non-real-like"):
        extract(np.full(30, -1), np.arange(30) % 3, **MINIMA)
