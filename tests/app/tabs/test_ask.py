"""The Ask tab's menu of documents, while documents come, go, and are read anew."""

from __future__ import annotations

from app import reading
from app.sessions import Visit
from app.tabs import ask_controls


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
