import numpy as np
import pytest

from data import split_files, tables
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


def _random_records(seed: int, unlabelled: float = 0.1) -> ArrayRecords:
    """Classes and sites in uneven shares; patients of 1 to about 9 images, each at one site."""
    rng = np.random.default_rng(seed)
    counts = tuple(rng.integers(60, 300, rng.integers(2, 4)))
    patients = rng.integers(0, sum(counts) // 3, sum(counts))
    at = rng.choice(["a", "b", "c"], patients.max() + 1, p=[0.6, 0.3, 0.1])
    groups = [f"p{p}" if p else "" for p in patients]
    records = make_records(counts, groups=groups, sites=at[patients])
    records.labels[rng.random(len(records)) < unlabelled] = -1
    return records


def _strata_counts(records: ArrayRecords, classes: int) -> np.ndarray:
    """Images per class and site [K, 3]."""
    found = [
        [np.sum((records.labels == k) & (records.sites == site)) for site in "abc"]
        for k in range(classes)
    ]
    return np.array(found)


@pytest.mark.parametrize("seed", range(25))
def test_strata_of_class_and_site_keep_their_shares(seed):
    records = _random_records(seed)
    made = _split(records, seed=seed, unlabelled=-1)
    parts = {name: getattr(made, name) for name in ("train", "val", "test")}
    groups = {name: set(part.groups.tolist()) - {""} for name, part in parts.items()}
    assert not (groups["train"] | set(made.unlabelled.groups) - {""}) & groups["val"]
    assert not (groups["train"] | set(made.unlabelled.groups) - {""}) & groups["test"]
    assert not groups["val"] & groups["test"]
    classes = len(records.class_names)
    total = _strata_counts(records, classes)
    largest = np.unique(records.groups, return_counts=True)[1][1:].max()
    for name, fraction in (("test", 0.3), ("val", 0.2)):
        off = _strata_counts(parts[name], classes) - fraction * total
        # no further off than the largest patient
        assert np.abs(off).max() <= largest, (name, off)


def test_sites_count():
    """Without sites the same images are split otherwise, and worse for the sites."""
    off = []
    for seed in range(10):
        records = _random_records(seed)
        classes, total = len(records.class_names), _strata_counts(records, len(records.class_names))
        for sites in (records.sites, None):
            blind = ArrayRecords(
                records.images, records.labels, records.ids, records.class_names, records.groups,
                sites=sites,
            )  # fmt: skip
            test = records.subset(np.isin(records.ids, _split(blind, seed=seed).test.ids))
            off.append(np.abs(_strata_counts(test, classes) - 0.3 * total).mean())
    assert np.mean(off[::2]) < 0.7 * np.mean(off[1::2])


def test_a_set_too_small_for_its_sites_is_split_by_class():
    records = make_records((6, 6), sites=[*"aaabbc", *"abccdd"])
    for seed in range(20):
        made = _split(records, seed=seed, val_fraction=0.15)
        assert [_counts(part) for part in (made.test, made.val)] == [[2, 2], [1, 1]]


@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_folds_hold_every_image_once(seed, folds):
    records = _random_records(seed)
    made = [_split(records, seed=seed, folds=folds, fold=i, unlabelled=-1) for i in range(folds)]
    tested = [name for split in made for name in split.test.ids]
    labelled = records.ids[records.labels >= 0]
    assert sorted(tested) == sorted(labelled)
    classes = len(records.class_names)
    total = _strata_counts(records, classes)
    largest = np.unique(records.groups, return_counts=True)[1][1:].max()
    for split in made:
        sides = [set(part.groups.tolist()) - {""} for part in (split.train, split.val, split.test)]
        assert len(set.union(*sides)) == sum(map(len, sides))
        assert not (set(split.unlabelled.groups.tolist()) - {""}) & (sides[1] | sides[2])
        off = _strata_counts(split.test, classes) - total / folds
        assert np.abs(off).max() <= largest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folds": 1}, "give 2 folds or more"),
        ({"folds": 3, "fold": 3}, r"--config\.data\.folds=3 with --config\.data\.fold=3"),
        ({"folds": 40}, "has 30 images to divide into 40 folds, .* ask for fewer folds"),
    ],
)
def test_impossible_folds_are_explained(changes, words):
    with pytest.raises(UserError, match=words):
        _split(make_records((60, 30)), **changes)


def test_a_source_with_a_test_split_has_no_folds():
    own = {name: make_records((20, 20), prefix=name) for name in ("train", "test")}
    with pytest.raises(UserError, match="has a test split of its own; leave folds out"):
        _split(own, folds=2)


# --- files of ids


def test_a_file_gives_the_same_splits_again(tmp_path):
    records = _random_records(0)
    source = Source({"all": records}, "npz:x")
    made = _split(records, real_per_class=9, unlabelled=-1)
    split_files.write(tmp_path / "s.parquet", made)
    again = split_files.apply(source, tmp_path, split_files.read(tmp_path / "s.parquet"))
    assert again.digest() == made.digest()
    table = tables.read_parquet(tmp_path / "s.parquet")
    lines = ["id,split", *(f"{i},{s}" for i, s in zip(table["id"], table["split"], strict=True))]
    (tmp_path / "s.csv").write_text("\n".join(lines))
    again = split_files.apply(source, tmp_path, split_files.read(tmp_path / "s.csv"))
    assert again.digest() == made.digest()


def test_a_file_for_a_source_with_own_splits(tmp_path):
    own = {name: make_records((20, 20), prefix=name) for name in ("train", "test")}
    made = _split(own, real_per_class=3)
    split_files.write(tmp_path / "s.parquet", made)
    ids = split_files.read(tmp_path / "s.parquet")
    assert split_files.apply(Source(own, "npz:x"), tmp_path, ids).digest() == made.digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ids: ids["test"].__setitem__(0, "zz"), "has the id 'zz' in test, npz:x not"),
        (lambda ids: ids.update(val=ids["test"]), "share"),
        (lambda ids: ids.update(val=ids["val"][:1]), "its val split lacks"),
        (
            lambda ids: ids.update(test=np.append(ids["test"], "r0")),
            "images without",
        ),
        (lambda ids: ids.update(unlabelled=ids["test"][:1]), "share 1 ids"),
    ],
)
def test_files_that_do_not_fit_are_explained(tmp_path, change, words):
    records = make_records((30, 30), groups=[f"p{i // 2}" for i in range(60)])
    records.labels[0] = -1
    split_files.write(tmp_path / "s.parquet", _split(records))
    ids = split_files.read(tmp_path / "s.parquet")
    change(ids)
    with pytest.raises(UserError, match=words):
        split_files.apply(Source({"all": records}, "npz:x"), tmp_path / "s.parquet", ids)


def test_a_patient_of_a_file_never_crosses(tmp_path):
    records = make_records((30, 30), groups=[f"p{i // 2}" for i in range(60)])
    made = _split(records)
    ids = {name: getattr(made, name).ids for name in split_files.NAMES}
    of_one = records.ids[records.groups == made.test.groups[0]]
    ids["test"] = ids["test"][~np.isin(ids["test"], of_one[:1])]
    ids["train"] = np.append(ids["train"], of_one[0])
    with pytest.raises(UserError, match="train and test splits share 1 groups"):
        split_files.apply(Source({"all": records}, "npz:x"), tmp_path, ids)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist; mend the path"),
        ("id,part\na,train", "no column 'split'"),
        ("id,split\na,training", "has a split 'training'; use train, unlabelled"),
        ("id,split\na,train\na,val", "has the id 'a' twice"),
    ],
)
def test_files_that_are_none(tmp_path, text, words):
    if text is not None:
        (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        split_files.read(tmp_path / "s.csv")


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
