import numpy as np
import pytest

from data.errors import UserError
from data.records import ArrayRecords
from data.sources import Source
from data.splits import Splits, make_splits

from .conftest import make_records, read_source

DEFAULTS = {"val_fraction": 0.2, "test_fraction": 0.3, "real_per_class": 0, "seed": 0}


def _split(records: ArrayRecords | dict[str, ArrayRecords], **changes) -> Splits:
    splits = records if isinstance(records, dict) else {"all": records}
    return make_splits(Source(splits, "npz:x"), **(DEFAULTS | changes))


def _counts(records: ArrayRecords) -> list[int]:
    return np.bincount(records.labels, minlength=len(records.class_names)).tolist()


def _ids(records: ArrayRecords) -> set[str]:
    return set(records.ids.tolist())


def test_fractions_are_per_class_and_nothing_is_lost():
    made = _split(make_records((100, 50, 10)))
    assert _counts(made.test) == [30, 15, 3]
    assert _counts(made.val) == [20, 10, 2]
    assert _counts(made.train) == [50, 25, 5]
    assert len(made.unlabelled) == 0
    every = [*made.train.ids, *made.val.ids, *made.test.ids]
    assert len(set(every)) == len(every) == 160


def test_same_seed_same_split_and_other_seed_another():
    records = make_records((40, 40, 40))
    digests = [_split(records, seed=seed).digest() for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]


def test_real_per_class_is_nested():
    records = make_records((40, 40, 40))
    few, more = (_split(records, real_per_class=n) for n in (5, 11))
    assert _counts(few.train) == [5, 5, 5]
    assert _counts(more.train) == [11, 11, 11]
    assert _ids(few.train) < _ids(more.train)
    assert _ids(few.test) == _ids(more.test)


def test_which_images_are_chosen_depends_on_the_seed():
    own = {name: make_records((20, 20), prefix=name) for name in ("train", "val", "test")}
    made = [_split(own, real_per_class=5, unlabelled=5, seed=seed) for seed in range(4)]
    assert len({tuple(part.train.ids) for part in made}) == 4
    assert len({tuple(part.unlabelled.ids) for part in made}) == 4


def test_rarity_by_name_or_number():
    records = make_records((40, 40, 40))
    made = _split(records, real_per_class=10, per_class={"class 0": 2, "2": 0, 1: 7})
    assert _counts(made.train) == [2, 7, 20]


def test_unlabelled_images_come_from_what_training_leaves():
    records = make_records((40, 40, 40))
    made = _split(records, real_per_class=4, unlabelled=-1)
    assert len(made.unlabelled) == 120 // 2 - 12
    assert set(made.unlabelled.labels) == {-1}
    others = _ids(made.train) | _ids(made.val) | _ids(made.test)
    assert not others & _ids(made.unlabelled)
    assert len(_split(records, real_per_class=4, unlabelled=7).unlabelled) == 7
    # Dropping the labels must not reach the source.
    assert (records.labels >= 0).all()


def test_images_that_never_had_a_label_only_serve_unlabelled():
    records = make_records((40, 40))
    records.labels[::4] = -1
    made = _split(records, unlabelled=-1)
    assert _ids(made.unlabelled) == set(records.ids[::4].tolist())
    assert all((part.labels >= 0).all() for part in (made.train, made.val, made.test))


@pytest.mark.parametrize("seed", range(25))
def test_no_patient_is_on_two_sides(seed):
    rng = np.random.default_rng(seed)
    counts = tuple(rng.integers(30, 200, rng.integers(2, 5)))
    patients = rng.integers(0, rng.integers(15, 120), sum(counts))
    groups = [f"p{p}" if p else "" for p in patients]
    records = make_records(counts, groups=groups)
    records.labels[rng.random(len(records)) < 0.1] = -1
    made = _split(records, seed=seed, real_per_class=4, unlabelled=-1)
    seen = {
        name: set(getattr(made, name).groups.tolist()) - {""}
        for name in ("train", "unlabelled", "val", "test")
    }
    assert not (seen["train"] | seen["unlabelled"]) & (seen["val"] | seen["test"])
    assert not seen["val"] & seen["test"]
    sets = [_ids(getattr(made, name)) for name in seen]
    assert len(set.union(*sets)) == sum(map(len, sets))
    for part in (made.train, made.val, made.test):
        assert min(_counts(part)) > 0
    labelled = np.bincount(records.labels[records.labels >= 0])
    largest = np.unique(patients, return_counts=True)[1].max()
    for part, fraction in ((made.test, 0.3), (made.val, 0.2)):
        assert np.abs(np.array(_counts(part)) - fraction * labelled).max() <= largest


def test_a_sources_own_splits_are_kept():
    own = {name: make_records((20, 20), prefix=name) for name in ("train", "val", "test")}
    made = _split(own, real_per_class=3, val_fraction=0, test_fraction=0)
    assert made.val is own["val"]
    assert made.test is own["test"]
    assert _ids(made.train) < _ids(own["train"])
    del own["val"]
    made = _split(own)
    assert made.test is own["test"]
    assert _counts(made.val) == [4, 4]
    assert _ids(made.train) | _ids(made.val) == _ids(own["train"])


def test_unknown_patients_are_nobodys_in_a_sources_own_splits():
    train = make_records((9, 9), groups=["", *"bcdefghijklmnopqr"])
    test = make_records((9, 9), prefix="t", groups=[""] * 18)
    assert len(_split({"train": train, "test": test}).test) == 18


@pytest.mark.parametrize("what", ["ids", "groups"])
def test_a_sources_own_leak_is_refused(what):
    train = make_records((9, 9), groups=[f"a{i}" for i in range(18)])
    test = make_records((9, 9), prefix="t", groups=[f"b{i}" for i in range(18)])
    getattr(test, what)[4] = getattr(train, what)[7]
    with pytest.raises(UserError, match=f"train and test splits share 1 {what}"):
        _split({"train": train, "test": test})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"real_per_class": 50},
            r"--config\.data\.real_per_class=50 asks for 50 images of class 'class 1', "
            "there are 31; ask for at most 31 or 0 for all",
        ),
        ({"per_class": {"class 0": 101}}, r"per_class=\{'class 0': 101\} asks for 101 images"),
        ({"per_class": {"class 9": 1}}, "names 'class 9', which is no class; the classes are"),
        ({"per_class": {"2": 1}}, "names '2', which is no class"),
        ({"real_per_class": -1}, "is negative"),
        ({"unlabelled": 200}, "asks for 200 images without labels, 0 training images remain"),
        ({"unlabelled": -2}, "-1 stands for all"),
        ({"val_fraction": 0}, r"--config\.data\.val_fraction=0 leaves no val split"),
        ({"test_fraction": 1.0}, r"--config\.data\.test_fraction=1.0 leaves no test split"),
    ],
)
def test_impossible_wishes_are_explained(changes, message):
    with pytest.raises(UserError, match=message) as error:
        _split(make_records((120, 62)), **changes)
    assert "\n" not in str(error.value)


def test_a_class_too_small_to_divide_is_named():
    with pytest.raises(UserError, match="class 'class 1' has 2 images to divide between val"):
        _split(make_records((30, 3)), val_fraction=0.5)
    few_patients = make_records((30, 30), groups=[*map(str, range(30)), *["same"] * 30])
    with pytest.raises(UserError, match=r"class 'class 1' has 1 groups \(patients\) to divide"):
        _split(few_patients)


def test_unlabelled_or_synthetic_images_are_never_measured_on():
    own = {name: make_records((9, 9), prefix=name) for name in ("train", "val", "test")}
    own["val"].labels[3] = -1
    with pytest.raises(UserError, match="val split has images without a label"):
        _split(own)
    own["val"] = make_records((9, 9), prefix="s", synthetic=True)
    with pytest.raises(UserError, match="'val' split would hold synthetic images"):
        _split(own)


def test_a_source_without_training_images_is_refused():
    with pytest.raises(UserError, match="has no training images, only test"):
        _split({"test": make_records()})


def test_chest_xrays_are_patient_disjoint(chest_npz, tmp_path):
    source = read_source(f"npz:{chest_npz}", data_dir=tmp_path, size=64, channels=1)
    made = make_splits(source, **(DEFAULTS | {"real_per_class": 50}), unlabelled=-1)
    assert [_counts(part) for part in (made.train, made.val, made.test)] == [
        [50, 50, 50],
        [50, 50, 50],
        [100, 100, 100],
    ]
    assert len(made.unlabelled) == 1050
    everything = Source({"all": _joined(source)}, "joined")
    made = make_splits(everything, **DEFAULTS)
    assert not set(made.train.groups) & (set(made.val.groups) | set(made.test.groups))
    assert not set(made.val.groups) & set(made.test.groups)
    np.testing.assert_allclose(_counts(made.test), [165] * 3, atol=12)


def _joined(source: Source) -> ArrayRecords:
    parts = list(source.splits.values())
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("images", "labels", "ids", "groups")
    }
    return ArrayRecords(class_names=source.class_names, **columns)
