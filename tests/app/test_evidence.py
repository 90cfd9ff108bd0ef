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
