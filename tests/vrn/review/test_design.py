import numpy as np
import pytest

from vrn.review import design

IDS = [f"s{i}" for i in range(200)]


def test_a_plan_shows_every_image_once_and_a_share_again_later():
    tasks = design.plan(IDS, ["r0", "r1"], "ada", 0.1, seed=3)
    first = [task.sample_id for task in tasks if not task.repeat]
    again = [task.sample_id for task in tasks if task.repeat]
    assert sorted(first) == sorted([*IDS, "r0", "r1"])
    assert len(again) == len(set(again)) == 20
    assert {task.sample_id for task in tasks if task.real} == {"r0", "r1"}
    shown = {task.sample_id: place for place, task in enumerate(tasks) if not task.repeat}
    gaps = [place - shown[task.sample_id] for place, task in enumerate(tasks) if task.repeat]
    assert min(gaps) >= design.GAP


def test_the_order_is_the_seeds_and_the_raters():
    plan = design.plan(IDS, [], "ada", 0.1, seed=3)
    assert plan == design.plan(IDS, [], "ada", 0.1, seed=3)
    assert plan != design.plan(IDS, [], "ada", 0.1, seed=4)
    assert plan != design.plan(IDS, [], "bob", 0.1, seed=3)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_tiny_studies_can_be_planned(count):
    tasks = design.plan(IDS[:count], [], "ada", 1.0, seed=0)
    assert sorted({task.sample_id for task in tasks}) == sorted(IDS[:count])


def test_every_image_goes_to_so_many_raters_in_even_loads():
    raters = ("a", "b", "c", "d")
    shares = design.assign(101, raters, 2, seed=0)
    counts = np.bincount(np.concatenate(list(shares.values())), minlength=101)
    assert (counts == 2).all()
    loads = [len(rows) for rows in shares.values()]
    assert max(loads) - min(loads) <= 1
    for everyone in (0, 4, 9):
        shares = design.assign(10, raters, everyone, seed=0)
        assert all(len(rows) == 10 for rows in shares.values())


def test_reals_make_up_their_share():
    assert design.reals_for(90, 0.1, 1000) == 10
    assert design.reals_for(90, 0.1, 4) == 4
    assert design.reals_for(90, 0.0, 1000) == 0


def test_active_order_puts_the_uncertain_first_and_leaves_reals_and_repeats_in_place():
    tasks = design.plan(IDS, ["r0", "r1", "r2"], "ada", 0.1, seed=3)
    uncertainty = {sample_id: float(i) for i, sample_id in enumerate(IDS)}
    order = design.active(tasks, uncertainty)
    assert sorted(order) == list(range(len(tasks)))
    moved = [tasks[index] for index in order]
    for before, after in zip(tasks, moved, strict=True):
        if before.real or before.repeat:
            assert after == before
    assert [task.sample_id for task in moved if not task.real and not task.repeat] == IDS
    assert design.active(tasks, {}) == list(range(len(tasks)))
