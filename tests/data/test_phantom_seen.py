"""Lesions are seen where they are, and seldom where they aren't."""

import numpy as np
import pytest

from data.builders.phantom import anatomy, lesions, seen
from data.builders.phantom.render import render

COUNT = 100
# Least share of phantoms with each lesion in which it is seen, set in trials with other seeds.
FOUND = {"nodule": 0.5, "effusion": 0.9, "enlarged_heart": 0.6}


@pytest.fixture(scope="module")
def ill():
    who = np.arange(4 * COUNT)
    a = anatomy.draw(7, who, np.zeros_like(who))
    return a, render(a, (64, 64))


def test_lesions_are_seen_in_those_who_have_them(ill):
    a, pictures = ill
    found, twins = seen.lesions(pictures.image), seen.lesions(pictures.twin)
    for number, name in enumerate(seen.LESIONS, start=1):
        here = a.label == number
        assert found[name][here].mean() >= FOUND[name]
        # The same people without the lesion: it is what is seen, not anything else about them.
        assert twins[name][here].mean() <= 0.15
        assert found[name][a.label == 0].mean() <= 0.15


def test_a_nodule_is_seen_where_it_is(ill):
    a, pictures = ill
    found = seen.signs(pictures.image)
    x, y, _ = lesions.nodule(a)
    off = np.hypot(found["nodule_x"] - x, found["nodule_y"] - y)
    assert (off[a.label == 1] < 0.15).mean() > 0.6
    assert (off[a.label == 0] < 0.15).mean() < 0.2  # the place says nothing where there is none


def test_larger_images_give_the_same_signs(ill):
    a, _ = ill
    some = a.take(np.arange(40))
    small, large = (seen.signs(render(some, (n, n)).image) for n in (64, 128))
    for name in ("effusion", "enlarged_heart"):
        assert np.corrcoef(small[name], large[name])[0, 1] > 0.95
