"""The Ask tab's menu of documents, wishes that come twice, and texts that look like tags."""

from __future__ import annotations

import gradio as gr
import pytest

from app import asking, reading
from app.sessions import Visit
from app.tabs import ask, ask_controls
from app.tabs.pieces import for_chat, from_chat
from memlong.config import AskOptions
from tests.app.conftest import QUESTION


def test_a_document_that_was_removed_is_no_longer_ticked_and_one_read_anew_is(read: Visit) -> None:
    reading.add_text(read, "The red kite hung in the attic. " * 9, "Kites", reading.limits_of(read.engine.settings))
    list(reading.read_all(read))
    book, kites = read.shelf
    assert ask_controls.documents_menu(read, ()).value == []
    ticked = ask_controls.documents_menu(read, [book.doc_id, kites.doc_id]).value
    assert ticked == [book.doc_id, kites.doc_id]

    reading.read_again(read, kites.item_id)
    list(reading.read_all(read))
    assert kites.doc_id not in ticked, "it has another number"
    assert ask_controls.documents_menu(read, ticked).value == [book.doc_id, kites.doc_id]

    reading.remove(read, book.item_id)
    menu = ask_controls.documents_menu(read, ticked)
    assert menu.value == [kites.doc_id]
    assert menu.preprocess(menu.value) == menu.value, "no question is refused for it"


@pytest.mark.parametrize("edited", [None, "Who wrote it?"])
def test_the_second_wish_of_two_to_ask_again_changes_nothing(read: Visit, edited: str | None) -> None:
    list(asking.ask(read, "Another?", AskOptions(max_tokens=3)))
    controls = ("memory", [], 3, 0, 0, 8)
    going = ask.again(read, [0, None], edited, controls)
    next(going)
    assert list(ask.again(read, [0, None], edited, controls)) == [[gr.skip()] * 7]
    assert "One question at a time" not in list(going)[-1][1]
    assert [exchange.question for exchange in read.exchanges] == [edited or QUESTION]

    list(asking.ask(read, "Another?", AskOptions(max_tokens=3)))
    going = ask.again(read, [2, None], None, controls)
    next(going)
    assert "One question at a time" in list(ask.again(read, [0, None], None, controls))[-1][1], "that is another wish"
    list(going)


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=alert(1)>", "</div><script>", "a &lt;b&gt; c", "<!-- -->", "&#60;b>"]
)
def test_nothing_can_begin_a_tag_in_the_chat(text: str) -> None:
    shown = for_chat(text)
    assert "<" not in shown
    assert from_chat(shown) == text


@pytest.mark.parametrize("text", ["2 < 3 & 4 > 1", "Tom & Jerry", "a <- b", "50 % of $$x$$"])
def test_plain_text_in_the_chat_stays_as_it_is(text: str) -> None:
    assert for_chat(text) == text
