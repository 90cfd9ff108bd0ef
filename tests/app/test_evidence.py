"""What stands beside an answer: words it shares with a passage, and what to know before trusting it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.sessions import Visit
from app.tabs import evidence as pane
from memlong.config import AskOptions


@pytest.mark.parametrize(
    ("answer", "text", "said"),
    [
        ("Анна", "Там была Анна.", True), ("Анн", "Там была Анна.", False), ("né à Lyon", "Il est né à Lyon.", True),
        ("caf", "au café", False), ("灯台守", "鍵は灯台守が持つ", True),
    ],
)  # fmt: skip
def test_an_answer_is_said_in_whole_words_of_any_alphabet_that_has_them(answer: str, text: str, said: bool) -> None:
    assert (pane.words_of(answer, text) is not None) == said


@pytest.mark.parametrize("strength", [-8.0, 0.0])
def test_a_weak_memory_is_named_where_it_got_no_attention(read: Visit, strength: float) -> None:
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    exchange.answer = replace(exchange.answer, low_evidence=True)
    exchange.options = AskOptions(memory_strength=strength)
    assert ("a memory strength of -8:" in pane.notices(exchange)) == (strength < 0)


def test_a_bar_of_next_to_no_attention_is_short_and_the_most_of_none_is_not_named(read: Visit) -> None:
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    hits = [replace(item, attention_mass=0.0004 / item.rank) for item in exchange.answer.retrieved]
    exchange.answer = replace(exchange.answer, retrieved=tuple(hits))
    shown = pane.evidence(read)
    assert "width:4.0%" in shown and "width:100.0%" not in shown
    assert "most attention" not in shown
    exchange.answer = replace(exchange.answer, retrieved=(replace(hits[0], attention_mass=0.2), *hits[1:]))
    assert "width:100.0%" in pane.evidence(read) and "most attention" in pane.evidence(read)
