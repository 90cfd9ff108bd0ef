"""Hard-wrapped prose becomes one line per paragraph; verse, lists, tables and unwrapped text stay."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.documents.unwrap import unwrap

PROSE = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of "
    "foolishness, it "
    "was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the "
    "season of Darkness."
)
VERSE = (
    "The curfew tolls the knell of parting day,\nThe lowing herd wind slowly o'er the lea,\n"
    "The ploughman homeward plods his weary way,\nAnd leaves the world to darkness and to me."
)


@pytest.mark.parametrize("width", [50, 64, 72, 80])
def test_prose_comes_back(width: int) -> None:
    paragraphs = [PROSE, PROSE[20:] + " And so on.", "Short one.", PROSE[:100]]
    wrapped = "\n\n".join(textwrap.fill(paragraph, width) for paragraph in paragraphs)
    assert unwrap(wrapped).split("\n\n") == paragraphs


def test_verse_inside_prose_stays() -> None:
    wrapped = "\n\n".join([textwrap.fill(PROSE, 72), VERSE, textwrap.fill(PROSE, 72)])
    assert unwrap(wrapped) == f"{PROSE}\n\n{VERSE}\n\n{PROSE}"


def test_a_book_of_verse_stays() -> None:
    book = f"{VERSE}\n\n{VERSE}"
    assert unwrap(book) == book


def test_unwrapped_text_stays() -> None:
    text = f"{PROSE}\n{PROSE}\nShort line\nanother\n\n{PROSE}"
    assert unwrap(text) == text


def test_lists_and_tables_keep_their_lines() -> None:
    text = textwrap.fill(PROSE, 70) + "\n\n1. first thing\n2. second thing\n\nname      age\nAnselm    31"
    assert unwrap(text) == f"{PROSE}\n\n1. first thing\n2. second thing\n\nname      age\nAnselm    31"


def test_long_list_items_are_joined() -> None:
    items = [f"{n}. {PROSE[:109]}" for n in (1, 2)]
    assert unwrap("\n".join(textwrap.fill(item, 70) for item in items)) == "\n".join(items)


def test_indented_first_lines_separate_paragraphs() -> None:
    block = "\n".join(textwrap.fill(PROSE, 70, initial_indent="   ") for _ in range(3))
    assert [part.strip() for part in unwrap(block).split("\n\n")] == [PROSE] * 3


def test_hyphens_and_dashes_at_the_line_end_take_no_blank() -> None:
    text = (
        "He had been for a very long while a well-known and even a self-\n"
        "made man, and nobody in the whole of the town ever doubted it--\n"
        "until that particular evening in the cold autumn of that year."
    )
    assert "self-made man" in unwrap(text)
    assert "it--until" in unwrap(text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="aA b.-\n\t|1*", max_size=200))
def test_no_letter_is_lost(text: str) -> None:
    assert "".join(unwrap(text).split()) == "".join(text.split())
