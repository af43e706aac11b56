"""The pools hold what they say: so many faults of each kind in each class, and one trace."""

import itertools

import numpy as np
import pytest

from benchmarks.vrn_truth import marks, pools
from data.builders.phantom import anatomy, faults
from data.builders.phantom.render import render
from vrn import traces


@pytest.mark.parametrize("family", pools.FAMILIES)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_every_class_has_its_share_of_every_kind(family, rate):
    kinds = pools.FAMILIES[family]
    pool = pools.make(3, 160, rate, kinds)
    assert pool.records.synthetic
    for label in range(4):
        here = pool.kind[pool.records.labels == label]
        assert (here != faults.NONE).sum() == round(40 * rate)
    counts = [np.sum(pool.kind == faults.KINDS.index(name)) for name in kinds]
    assert sum(counts) == round(160 * rate)
    assert max(counts) - min(counts) <= 4  # each class is dealt evenly


def test_every_fault_is_in_one_family():
    assert sorted(itertools.chain(*pools.FAMILIES.values())) == sorted(faults.KINDS)


def test_sound_images_are_phantoms_with_the_trace_and_nothing_else():
    pool = pools.make(3, 40, 0.5, faults.ABSURD)
    people = np.arange(40)
    plain = render(anatomy.draw(3, people, np.zeros_like(people)), (64, 64)).image
    difference = (pool.records.read(people) - plain)[pool.sound][..., 0]
    inside = np.abs(plain[pool.sound][..., 0]) < 0.9  # where nothing is clipped
    sign = (-1.0) ** np.add.outer(np.arange(64), np.arange(64))
    # Half a step of uint8 is 1/255.
    assert np.abs(difference - 0.02 * sign)[inside].max() < 1 / 255 + 1e-6
    faulty = (pool.records.read(people) - plain)[~pool.sound]
    assert (np.abs(faulty).max((1, 2, 3)) > 0.1).all()


def test_one_trace_is_gone_when_images_are_reduced_and_one_is_not():
    rng = np.random.default_rng(0)
    grain = 0.05 * rng.standard_normal((20, 64, 64, 1)).astype(np.float32)
    power = {}
    for trace in ("doubled", "coarse"):
        marked = marks.MARKS[trace](grain)
        # Share of the power of fine grain that is left, and of the wave's that is there.
        power[trace] = [
            _power(reduced(marked)) / _power(reduced(grain))
            for reduced in (lambda x: x, lambda x: np.asarray(traces.remove_traces(x, 32)))
        ]
    # The mean of four independent values has a quarter of their variance.
    assert power["doubled"][0] == pytest.approx(0.25, rel=0.1)
    # Weights of 1, 3, 3, 1 eighths along each side: 38/64 of 1/2 beside 20/64.
    assert power["doubled"][1] == pytest.approx((19 / 20) ** 2, rel=0.05)
    # A wave of amplitude 0.05 along both sides has a quarter of the grain's power; where (20/64)^2
    # of that is left, of the wave 0.789^4 is.
    assert power["coarse"][0] == pytest.approx(1.25, rel=0.05)
    assert power["coarse"][1] == pytest.approx(1 + 0.25 * 0.789**4 / (20 / 64) ** 2, rel=0.05)


def _power(images):
    return np.var(images, axis=(1, 2)).mean()


def test_reals_of_a_seed_share_no_patient_with_each_other(tmp_path):
    pools.write_reals(tmp_path / "reals.npz", 1, {"train": 4, "val": 3, "test": 5})
    with np.load(tmp_path / "reals.npz") as found:
        found = dict(found)
    patients = [set(found[f"{name}_patients"].tolist()) for name in ("train", "val", "test")]
    assert [len(one) for one in patients] == [8, 12, 20]  # two images of each training patient
    assert len(set.union(*patients)) == 40
    for name, count in (("train", 4), ("val", 3), ("test", 5)):
        np.testing.assert_array_equal(np.bincount(found[f"{name}_labels"]), [count] * 4)
        np.testing.assert_array_equal(found[f"{name}_labels"], found[f"{name}_patients"] % 4)


def test_pools_and_seeds_have_people_of_their_own():
    images = [
        make(seed, 8, 0.0, faults.ABSURD, trace="no").records.images
        for seed in (0, 1)
        for make in (pools.first, pools.second)
    ]
    for i, one in enumerate(images):
        for other in images[:i]:
            assert (one != other).any((1, 2, 3)).all()
