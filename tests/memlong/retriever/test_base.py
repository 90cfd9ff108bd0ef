"""Long texts are embedded in parts, and nothing of them is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlong.retriever.base import Part, TooLong, join_parts, normalise, split_to_fit, too_long


def by_character(texts):
    return [[2, *map(ord, text), 3] for text in texts]


@given(st.lists(st.text(max_size=80), max_size=5), st.integers(3, 20))
def test_parts_fit_and_hold_every_character(texts, limit):
    parts = split_to_fit(texts, by_character, limit)
    for index, text in enumerate(texts):
        assert "".join(part.text for part in parts if part.index == index) == text
    assert all(len(part.ids) <= limit and len(part.ids) == len(part.text) + 2 for part in parts)


def test_texts_are_cut_at_blanks():
    parts = split_to_fit(["one two three four five"], by_character, 16)
    assert [part.text for part in parts] == ["one two", " three", " four five"]


def test_without_a_limit_nothing_is_cut():
    assert [part.text for part in split_to_fit(["a b c" * 99], by_character, None)] == ["a b c" * 99]


def test_parts_count_by_their_tokens():
    parts = [Part(0, "", [1] * 3), Part(0, "", [1]), Part(2, "", [1])]
    vectors = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    joined = join_parts(parts, vectors, 3)
    np.testing.assert_allclose(joined[0], np.array([3, 1]) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_array_equal(joined[1:], [[0, 0], [0, 1]])


def test_normalise_keeps_zero():
    np.testing.assert_array_equal(normalise(np.zeros((1, 3), dtype=np.float32)), np.zeros((1, 3)))


@pytest.mark.parametrize(("counts", "limit"), [(None, 4), ([5, 9], None), ([], 4)])
def test_nothing_is_too_long_without_counts_or_limit(counts, limit):
    assert too_long(counts, limit) == []


def test_too_long_names_the_text():
    assert too_long([5, 9], 8) == [TooLong(1, 9, 8)]
