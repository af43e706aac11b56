import numpy as np
import pytest

from data.errors import UserError
from data.loader import BatchSource
from data.records import ArrayRecords
from vrn import target
from vrn.target import Setting


def records(name: str, per_class: int, value: float) -> ArrayRecords:
    labels = np.arange(2 * per_class) % 2
    images = np.full((len(labels), 4, 4, 1), value, np.float32)
    return ArrayRecords(images, labels, [f"{name}{i}" for i in range(len(labels))], ("a", "b"))


@pytest.fixture
def material() -> dict:
    pool = records("pool", 10, 0.5)
    pool.images[5:] = -0.5
    names = ("random", "discriminator", "knn", "confidence", "vrn")
    kept = {name: np.arange(20) < 5 for name in names}
    given = records("synthetic:given", 4, 1.0)
    return {"real": records("real", 3, 0.0), "pool": pool, "kept": kept, "imported": given}


def test_the_grid_leaves_out_what_has_no_effect():
    shares, strengths = (0.25, 0.5), (1.0, 0.0)
    assert target.settings("real", shares, strengths) == [Setting(0.0, 0.0)]
    # Without augmentation the classical arm would be the real one.
    assert target.settings("classical", shares, (1.0, 0.0, 0.5)) == [Setting(0, 0.5), Setting(0, 1)]
    full = [Setting(0.25, 0), Setting(0.25, 1), Setting(0.5, 0), Setting(0.5, 1)]
    for arm in set(target.ARMS) - {"real", "classical"}:
        assert target.settings(arm, shares, strengths) == full


@pytest.mark.parametrize("arm", target.ARMS)
def test_batches_are_alike_in_all_but_their_extra_part(arm, material):
    setting = target.settings(arm, (0.25,), (0.5,))[0]
    source = BatchSource(target.parts(arm, setting, 16, **material), seed=0)
    batches = [source[step] for step in range(10)]
    for batch in batches:
        np.testing.assert_array_equal(np.bincount(batch["label"]), [8, 8])
    values = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])
    share = {kind: np.mean(np.isclose(values, kind)) for kind in (0.0, 0.5, -0.5, 1.0)}
    # Synthetic images of the source are seen by the arm that says so, and by no other.
    assert share[1.0] == (0.25 if arm == "imported" else 0)
    if arm in ("real", "classical", "duplicate"):
        assert share[0.0] == 1
    else:
        assert share[0.0] == 0.75
        # Only `unfiltered` sees the rows that no filter keeps.
        assert (share[-0.5] > 0) == (arm == "unfiltered")


def test_synthetic_only_is_a_share_of_one(material):
    (part,) = target.parts("vrn", Setting(1.0, 0.0), 16, **material)
    assert part.count == 16
    assert set(part.records.ids) == {f"pool{i}" for i in range(5)}


def test_choice_takes_the_best_and_then_the_smallest():
    scores = {
        Setting(0.5, 0.0): [0.7, 0.9],
        Setting(0.25, 1.0): 0.8,
        Setting(0.25, 0.5): 0.8,
        Setting(0.5, 1.0): 0.79,
    }
    assert target.choose(scores) == Setting(0.25, 0.5)
    assert target.choose(scores | {Setting(0.5, 1.0): 0.81}) == Setting(0.5, 1.0)
    with pytest.raises(ValueError, match="no validation scores"):
        target.choose({})


def test_errors_name_the_flag(material):
    with pytest.raises(UserError, match="Unknown arm 'oracle'"):
        target.settings("oracle", (0.5,), (0.0,))
    with pytest.raises(UserError, match=r"target\.shares is \(1\.5,\)"):
        target.settings("vrn", (1.5,), (0.0,))
    with pytest.raises(UserError, match=r"target\.strengths is \(\)"):
        target.settings("vrn", (0.5,), ())
    with pytest.raises(UserError, match="arm 'classical' needs one above 0"):
        target.settings("classical", (0.5,), (0.0,))
    with pytest.raises(UserError, match=r"needs labelled images marked as synthetic"):
        target.parts("imported", Setting(0.5, 0.0), 16, **material | {"imported": None})
    del material["kept"]["vrn"]
    with pytest.raises(UserError, match=r"add it to filter\.names"):
        target.parts("vrn", Setting(0.5, 0.0), 16, **material)
