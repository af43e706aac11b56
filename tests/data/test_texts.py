import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from data import texts

WORDS = ["b", "", "aé", "b", "long" * 9, "a", ""]


@pytest.fixture(params=["on disk", "array"])
def column(request, tmp_path):
    if request.param == "array":
        return np.array(WORDS)
    writer = texts.Writer(tmp_path / "words")
    for piece in (pa.chunked_array([["x", *WORDS[:3]]]).slice(1), WORDS[3:3], WORDS[3:]):
        writer.write(
            piece if isinstance(piece, pa.ChunkedArray) else pa.chunked_array([piece], pa.string())
        )
    return writer.close()


def test_a_column_is_an_array_of_texts(column):
    assert len(column) == len(WORDS)
    assert column.shape == (len(WORDS),)
    assert column.tolist() == list(column) == WORDS
    assert [column[i] for i in (0, 4, -2)] == ["b", "long" * 9, "a"]
    np.testing.assert_array_equal(np.asarray(column), WORDS)
    for chosen in (slice(1, 6, 2), np.array([5, 2, 2]), np.array(WORDS) == "b", slice(0, 0)):
        part = column[chosen]
        np.testing.assert_array_equal(np.asarray(part), np.array(WORDS)[chosen])
        np.testing.assert_array_equal(np.asarray(part[::-1]), np.array(WORDS)[chosen][::-1])


def test_blocks_are_all_of_it(column, monkeypatch):
    monkeypatch.setattr(texts, "_BLOCK", 3)
    found = list(texts.blocks(column[::-1]))
    assert [len(block) for block in found] == [3, 3, 1]
    assert np.concatenate(found).tolist() == WORDS[::-1]


def test_numbers_are_those_of_unique(column):
    numbers, count = texts.numbers(column)
    names, expected = np.unique(WORDS, return_inverse=True)
    np.testing.assert_array_equal(numbers, expected)
    assert count == len(names)
    assert texts.numbers(column[:0])[1] == 0


def test_what_comes_twice_and_what_both_have(column):
    assert texts.repeated(column[np.array([0, 2, 3, 4, 3])]) == ("b", 3)
    assert texts.repeated(column[4:]) is None
    assert texts.shared(column, np.array(["a", "c", "b", "b"])).tolist() == ["a", "b"]
    assert texts.shared(column, np.array(["c"])).tolist() == []


def test_texts_of_one_hash_are_told_apart(column, monkeypatch):
    monkeypatch.setattr(texts, "hashes", lambda column: np.zeros(len(column), np.int64))
    assert texts.repeated(column[4:]) is None
    assert texts.shared(column, np.array(["a", "c"])).tolist() == ["a"]


def test_rows_are_found_by_their_text(column):
    found = texts.Lookup(column).rows(["b", "c", "", "long" * 9, "b"])
    assert found == {"b": [0, 3], "": [1, 6], "long" * 9: [4]}
    assert texts.Lookup(column[:0]).rows(["b"]) == {}


def test_rows_of_texts_of_one_hash_are_told_apart(column, monkeypatch):
    monkeypatch.setattr(texts, "hashes", lambda column: np.zeros(len(column), np.int64))
    assert texts.Lookup(column).rows(["a", "c"]) == {"a": [5]}


@pytest.mark.parametrize("run", [1, 3, 7, 8])
@pytest.mark.parametrize("key", [None, lambda word: word.rstrip("/")])
def test_many_texts_are_sorted_on_disk(monkeypatch, run, key):
    """As Python sorts them, also line breaks, bytes that are no UTF-8, and equal texts."""
    monkeypatch.setattr(texts, "_RUN", run)
    monkeypatch.setattr(texts, "_PIECE", 2)
    words = ["b/", "a\n", "b", "\udce4", "", "a\n", "b/"]
    assert list(texts.in_order(iter(words), key=key)) == sorted(words, key=key)
    assert list(texts.in_order([], key=key)) == []


def test_sorting_many_texts_takes_little_memory(monkeypatch):
    monkeypatch.setattr(texts, "_RUN", 1 << 9)
    words = (f"image-{7919 * i % 20000:07d}.png" for i in range(20000))
    tracemalloc.start()
    last = ""
    for word in texts.in_order(words):
        assert word > last
        last = word
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6  # as objects in a list they are 1.5 MB
