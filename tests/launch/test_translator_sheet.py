"""Sheets of a translator: which domain each column shows, and what the map is of."""

from types import SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from gan.translation import domains
from launch import train_translator

NAMES = tuple("abcdefgh")


class Painter(nn.Module):
    """An image whose grey level is the code read as a binary number, 8 levels apart."""

    @nn.compact
    def __call__(self, x, codes):
        number = codes @ (2.0 ** jnp.arange(codes.shape[1]))
        return x * 0 + (8 * number[:, None, None, None] - 127.5) / 127.5


def shown(between, own, healthy=""):
    """The numbers in all but the first and last columns, and the greys of the map."""
    black = np.full((len(own), 4, 4, 1), -1, np.float32)
    spec = SimpleNamespace(domains=between, translator=Painter())
    picture = train_translator.sheet(spec, {}, black, np.array(own), healthy)
    tiles = picture[::5, ::5, 0].astype(int)  # a corner of each
    assert not tiles[:, 0].any()
    return (tiles[:, 1:-1] // 8).tolist(), tiles[:, -1].tolist()


def test_of_attributes_one_is_changed_in_each_column():
    numbers, change = shown(domains.attributes(NAMES), [0, 5, 6])
    assert numbers == [[0, 1, 2, 4], [5, 4, 7, 1], [6, 7, 4, 2]]
    np.testing.assert_allclose(change, [8, 32, 56], atol=1)
    five = domains.attributes([str(number) for number in range(32)])
    numbers, change = shown(five, [3, 31])
    assert numbers == [[3, 2, 1, 7, 11, 19], [31, 30, 29, 27, 23, 15]]


@pytest.mark.parametrize(("healthy", "mapped"), [("c", 4), ("none of them", 1)])
def test_of_classes_each_is_a_column_and_the_map_leads_to_health(healthy, mapped):
    numbers, change = shown(domains.classes(NAMES[:4]), [3, 1], healthy)
    assert numbers == [[8, 1, 2, 4, 8], [2, 1, 2, 4, 8]]
    np.testing.assert_allclose(change, [8 * mapped] * 2, atol=1)


def test_of_health_and_disease_both_are_columns():
    between = domains.healthy(NAMES, "b")
    assert shown(between, [1, 0], "b") == ([[1, 0, 1], [0, 0, 1]], [0, 0])
    assert shown(domains.attributes(NAMES[:2]), [1, 0])[0] == [[1, 0, 1], [0, 0, 1]]
