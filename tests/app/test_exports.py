"""Files that a visitor saves."""

from __future__ import annotations

import csv

from app import looking, reading
from app.documents import Limits
from app.exports import chunks_file, conversation_page
from app.rows.chunks import HEADERS, Filter
from app.sessions import Visit


def test_the_table_of_chunks_for_a_spreadsheet(visit: Visit) -> None:
    reading.add_text(visit, "=1+1 is what it begins with. " + "And so it goes on. " * 60, "=Sum", Limits())
    list(reading.read_all(visit))
    path = chunks_file(visit, looking.Look(rows=Filter(order="Chunk, last to first")))
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == HEADERS
    held = visit.memory().bank.records()
    assert [int(row[0]) for row in rows] == [record.chunk_id + 1 for record in reversed(held)]
    assert len(rows) > 1, "all of them, not a page"
    assert rows[-1][8].startswith("'=1+1"), "a spreadsheet must not work it out"
    assert rows[0][6].startswith("'=")


def test_the_page_of_a_conversation_holds_any_text_and_says_how_it_was_rated(read: Visit) -> None:
    exchange = read.exchanges[-1]
    exchange.liked = True
    page = conversation_page(read)
    assert "<b>book</b>" not in page and "<bdi>Log &lt;b&gt;book&lt;/b&gt;</bdi>" in page
    assert "Rated: up." in page
    assert 'blockquote dir="auto"' in page, "a text that runs from right to left is set so"
    assert "overflow-wrap:anywhere" in page, "a word without an end widens nothing"
    assert "color-scheme:light dark" in page
    exchange.liked = None
    assert "Rated" not in conversation_page(read)
