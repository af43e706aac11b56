import itertools

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from data.augment import NAMES
from data.errors import UserError
from data.loader import BatchSource, Matched, Part, make_loader
from data.records import ArrayRecords

from .conftest import make_records, record_numbers

GREY_AUGMENTATIONS = tuple(name for name in NAMES if name != "colour")


def _numbers(source: BatchSource, steps: range) -> np.ndarray:
    """Record numbers [steps, batch]."""
    return np.stack([record_numbers(source[i]["image"]) for i in steps])


def test_batches_are_float_images_with_their_own_labels(few):
    batch = BatchSource([Part(few, 8)], seed=0)[5]
    assert batch["image"].shape == (8, 2, 2, 1)
    assert batch["image"].dtype == np.float32
    assert batch["label"].dtype == np.int32
    np.testing.assert_array_equal(batch["label"], few.labels[record_numbers(batch["image"])])


def test_classes_have_equal_shares_and_none_starves():
    records = make_records((50, 3, 1))
    source = BatchSource([Part(records, 8)], seed=0)
    for step in range(30):
        counts = np.bincount(source[step]["label"], minlength=3)
        assert counts.max() - counts.min() <= 1
    labels = np.concatenate([source[step]["label"] for step in range(30)])
    assert np.bincount(labels).tolist() == [80, 80, 80]


def test_every_image_is_seen_before_any_is_seen_again():
    records = make_records((10, 4))
    seen = _numbers(BatchSource([Part(records, 6)], seed=1), range(40)).ravel()
    for label, size in ((0, 10), (1, 4)):
        stream = seen[records.labels[seen] == label]
        epochs = stream[: len(stream) // size * size].reshape(-1, size)
        members = np.flatnonzero(records.labels == label)
        assert (np.sort(epochs, axis=1) == members).all()
        assert len(np.unique(epochs, axis=0)) > 4  # the epochs differ


def test_unbalanced_parts_walk_through_all_images_alike():
    records = make_records((12, 2))
    seen = _numbers(BatchSource([Part(records, 7, balanced=False)], seed=1), range(4))
    for epoch in seen.reshape(2, 14):
        assert sorted(epoch) == list(range(14))


def test_strata_are_drawn_as_often_as_they_are_elsewhere():
    records = make_records((9, 9))
    strata = np.array([0] * 2 + [1] * 5 + [2] * 4 + [7] * 7)
    like = np.array([2] * 6 + [0] * 3 + [1] + [5] * 4)  # none is drawn of 7, and there is none of 5
    source = BatchSource([Part(records, 4, matched=Matched(strata, like))], seed=1)
    seen = _numbers(source, range(50)).ravel()
    np.testing.assert_array_equal(np.bincount(strata[seen], minlength=8), [60, 20, 120, *[0] * 5])
    for stratum in range(3):
        members = np.flatnonzero(strata == stratum)
        epochs = seen[strata[seen] == stratum].reshape(-1, len(members))
        assert (np.sort(epochs, axis=1) == members).all()
    # Successive laps are in one order, which is not that of the strata's numbers.
    laps = strata[seen].reshape(20, 10)
    assert (laps == laps[0]).all()
    assert (np.diff(laps[0]) < 0).sum() > 1
    with pytest.raises(UserError, match="strata that hold none"):
        BatchSource([Part(records, 4, matched=Matched(strata, np.array([5])))], seed=1)


def test_parts_keep_their_counts_and_labels():
    real = make_records((6, 6))
    more = make_records((5, 5)).without_labels()
    parts = [Part(real, 4), Part(real, 0), Part(more, 3), Part(real, 2, label=1)]
    for step in range(5):
        labels = BatchSource(parts, seed=0)[step]["label"]
        assert sorted(labels[:4]) == [0, 0, 1, 1]
        assert labels[4:].tolist() == [-1, -1, -1, 1, 1]


def test_parts_over_the_same_records_are_walked_independently(few):
    source = BatchSource([Part(few, 5), Part(few, 5)], seed=0)
    halves = _numbers(source, range(8)).reshape(8, 2, 5)
    assert (halves[:, 0] != halves[:, 1]).any()


def test_only_seed_and_step_matter(few):
    parts = [Part(few, 6)]
    first = BatchSource(parts, seed=3)
    order = [4, 0, 900, 4]
    again = BatchSource(parts, seed=3)
    backwards = {step: again[step] for step in reversed(order)}
    for step in order:
        np.testing.assert_array_equal(first[step]["image"], backwards[step]["image"])
    other = BatchSource(parts, seed=4)
    assert (_numbers(other, range(9)) != _numbers(first, range(9))).any()


def test_augmentation_is_drawn_anew_at_every_step():
    grey = np.full((1, 4, 4, 1), 128, np.uint8)
    one = ArrayRecords(grey, [0], ["grey"], ["only"])
    source = BatchSource([Part(one, 2)], seed=0, augment=("noise",))
    rows = np.concatenate([source[step]["image"] for step in range(5)])
    assert len(np.unique(rows.reshape(10, -1), axis=0)) == 10


@pytest.mark.parametrize("process_count", [1, 2, 4, 12])
def test_global_batch_is_the_same_on_any_number_of_processes(process_count, rng):
    images = rng.integers(0, 256, (30, 16, 16, 1), dtype=np.uint8)
    records = ArrayRecords(images, np.arange(30) % 3, [str(i) for i in range(30)], list("abc"))
    parts = [Part(records, 7), Part(records, 5, balanced=False, label=-1)]
    settings = {"seed": 5, "augment": GREY_AUGMENTATIONS, "strength": 0.7}
    whole = BatchSource(parts, **settings)
    shares = [
        BatchSource(parts, **settings, process_index=p, process_count=process_count)
        for p in range(process_count)
    ]
    for step in (0, 1, 17):
        pieces = [share[step] for share in shares]
        assert {len(piece["label"]) for piece in pieces} == {12 // process_count}
        for key, expected in whole[step].items():
            found = np.concatenate([piece[key] for piece in pieces])
            np.testing.assert_array_equal(found, expected)


def test_mixed_rows_name_the_label_of_the_other_image():
    records = make_records((8, 8))
    batch = BatchSource([Part(records, 8)], seed=0, augment=("mixup",), strength=20.0)[3]
    plain = BatchSource([Part(records, 8)], seed=0)[3]
    np.testing.assert_array_equal(batch["label"], plain["label"])
    whose = dict(zip(plain["image"][:, 0, 0, 0], plain["label"], strict=True))
    for row, weight in enumerate(batch["mix_weight"].astype(float)):
        rest = batch["image"][row, 0, 0, 0] - weight * plain["image"][row, 0, 0, 0]
        other = min(whose, key=lambda value: abs((1 - weight) * value - rest))
        assert whose[other] == batch["mix_label"][row]
    assert (batch["mix_label"] != batch["label"]).any()


@pytest.mark.parametrize("prefetch", [0, 3])
def test_iterator_goes_on_where_it_stopped(few, prefetch):
    source = BatchSource([Part(few, 6)], seed=0, augment=("noise",))
    expected = [source[i]["image"] for i in range(9)]
    iterator = make_loader(source, prefetch=prefetch)
    for step in range(4):
        np.testing.assert_array_equal(next(iterator)["image"], expected[step])
    state = iterator.get_state()
    for _ in range(3):
        next(iterator)
    iterator.set_state(state)
    fresh = make_loader(source, prefetch=prefetch)
    fresh.set_state(state)
    started = make_loader(source, start=4, prefetch=prefetch)
    for resumed in (iterator, fresh, started):
        for step in range(4, 9):
            np.testing.assert_array_equal(next(resumed)["image"], expected[step])


def test_iterator_lives_in_an_orbax_checkpoint(few, tmp_path):
    source = BatchSource([Part(few, 6)], seed=0)
    iterator = make_loader(source)
    for _ in itertools.repeat(None, 3):
        next(iterator)
    with ocp.CheckpointManager(tmp_path / "c", item_names=("data",)) as manager:
        saved = ocp.args.Composite(data=grain.checkpoint.CheckpointSave(iterator))
        manager.save(3, args=saved)
        manager.wait_until_finished()
        resumed = make_loader(source)
        wanted = ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(resumed))
        manager.restore(3, args=wanted)
    np.testing.assert_array_equal(next(resumed)["image"], source[3]["image"])


def test_impossible_batches_are_explained(few):
    empty = few.subset(np.array([], int))
    small = ArrayRecords(np.zeros((1, 4, 4, 1), np.uint8), [0], ["a"], ["x"])
    for arguments, message in [
        ({"parts": []}, "would hold no images"),
        ({"parts": [Part(empty, 2)]}, "2 images from an empty set"),
        ({"parts": [Part(few, 2), Part(small, 1)]}, "mix images of shapes"),
        ({"parts": [Part(few, 6)], "process_count": 4}, "batch of 6 can't be shared by 4"),
        ({"parts": [Part(few, 6)], "augment": ("spin",)}, "no augmentation 'spin'; choose from"),
        ({"parts": [Part(few, 6)], "augment": ("colour",)}, "'colour' needs 3 channels"),
    ]:
        with pytest.raises(UserError, match=message):
            BatchSource(**({"seed": 0} | arguments))


@pytest.mark.parametrize("names", [(), ("flip", "shift", "rotate", "noise", "histogram")])
def test_masks_move_with_their_images(names):
    rng = np.random.default_rng(0)
    shapes = np.zeros((12, 32, 32, 1), np.uint8)
    for shape, (y, x) in zip(shapes, rng.integers(4, 18, (12, 2)), strict=True):
        shape[y : y + 10, x : x + 8] = 255
    labels, ids = np.arange(12) % 2, np.arange(12).astype(str)
    records = ArrayRecords(shapes, labels, ids, ["a", "b"])
    masks = ArrayRecords(shapes, labels, ids, ["a", "b"])
    parts = [
        Part(records.subset(labels == k), 3, label=k, masks=masks.subset(labels == k))
        for k in (0, 1)
    ]
    whole = BatchSource(parts, seed=0, augment=names)
    for step in range(3):
        batch = whole[step]
        assert batch["mask"].shape == (6, 32, 32)
        assert batch["mask"].dtype == bool
        seen = batch["image"][..., 0] > 0
        # At edges an image is interpolated and a mask is not.
        assert (seen != batch["mask"]).mean() < (0.02 if names else 1e-9)
        assert 0.9 < batch["mask"].mean() / seen.mean() < 1.1
        assert batch["label"].tolist() == [0] * 3 + [1] * 3
        halves = [
            BatchSource(parts, seed=0, augment=names, process_index=i, process_count=2)[step]
            for i in (0, 1)
        ]
        joined = np.concatenate([half["mask"] for half in halves])
        np.testing.assert_array_equal(joined, batch["mask"])


def test_masks_of_some_parts_only_are_refused(few):
    with pytest.raises(ValueError, match="some parts of a batch have masks"):
        BatchSource([Part(few, 2), Part(few, 2, masks=few)], seed=0)
    with pytest.raises(ValueError, match="mixup has no masks"):
        BatchSource([Part(few, 2, masks=few)], seed=0, augment=("mixup",))
