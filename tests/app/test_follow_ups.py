"""A question that leans on the one before it: how memory is asked it, and what is shown and forgotten of it."""

from __future__ import annotations

from dataclasses import replace
from html import unescape

import pytest

from app import asking, reading
from app.documents import Limits
from app.exports import conversation, conversation_page
from app.sessions import Exchange, Visit
from app.tabs import evidence as pane
from app.tabs import lab_runs
from app.tabs.ask import messages
from app.tabs.ask_controls import options
from memlong.config import AskOptions

OPTIONS = AskOptions(max_tokens=6, top_k=3, follow_ups=True)


@pytest.fixture
def read(visit: Visit, long_text: str) -> Visit:
    """Return a visitor whose log book was read."""
    reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    return visit


def ask(visit: Visit, question: str) -> Exchange:
    *_, exchange = asking.ask(visit, question, OPTIONS)
    return exchange


def test_a_follow_up_is_asked_with_its_name_and_that_is_shown(read: Visit) -> None:
    ask(read, "Where did Ottoline Varga live?")
    exchange = ask(read, "What did she keep?")
    assert exchange.reworded == "What did Ottoline Varga keep?"
    assert messages(read)[-1]["content"] == f"\u21b3 Asked as: {exchange.reworded}\n{exchange.text}"
    shown = unescape(pane.evidence(read))
    assert f"Asked as: <q>{exchange.reworded}</q>" in shown
    assert "Asked as" not in messages(read)[1]["content"]
    for export in (conversation, conversation_page):
        assert export(read).count(f"Asked as: {exchange.reworded}") == 1


def test_the_lab_offers_it_as_it_can_be_asked_alone(read: Visit) -> None:
    ask(read, "Where did Ottoline Varga live?")
    exchange = ask(read, "What did she keep?")
    assert lab_runs.question(read, "", own=False) == exchange.alone == "What did Ottoline Varga keep?"
    assert replace(exchange, answer=replace(exchange.answer, steps=(exchange.answer,))).alone == "What did she keep?"
    assert Exchange("What did she keep?").alone == "What did she keep?"


def test_what_was_taken_back_or_cleared_is_no_conversation(read: Visit) -> None:
    ask(read, "Where did Ottoline Varga live?")
    ask(read, "What did Tobias Finch keep?")
    asking.take_back(read, 1)
    assert ask(read, "What did she keep?").asked == "What did Ottoline Varga keep?"
    asking.clear(read)
    assert ask(read, "What did she keep?").asked == "What did she keep?"
    assert read.memory().turns == read.turns(1)


def test_the_tab_asks_follow_ups_and_programs_ask_questions_that_stand_alone():
    assert options("memory", [], 0, 0, 0, 64).follow_ups and not AskOptions().follow_ups
