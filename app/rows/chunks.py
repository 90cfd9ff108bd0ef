"""The table of chunks: rows, filters, order, pages; and the headline and the histogram that go with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from app.rows.timeline import Timeline
from app.text import chunk_number, number_words, one_line, plural
from memlong.trace.replay import ReplayState

PAGE = 25
"""Rows sent at a time."""


class Document(Protocol):
    """What a row needs of a document; :class:`memlong.session.results.DocumentState` has it."""

    title: str
    text: str

    def place(self, span: tuple[int, int]) -> str:
        """Return where a span lies, in words."""


Documents = Mapping[int, Document]


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """One chunk after some step.

    Attributes:
        chunk_id, doc_id, index_in_doc, span, n_tokens, trigger_count: see the ledger. state: "held",
            "pinned", "evicted" or "deleted". age: chunks written since. attention: mean share over all
            generated tokens.
        rule: why it left, in words, or "".
    """

    chunk_id: int
    doc_id: int
    index_in_doc: int
    span: tuple[int, int]
    n_tokens: int
    trigger_count: int
    state: str
    age: int
    attention: float
    rule: str = ""


def chunk_rows(timeline: Timeline, step: int | None = None) -> list[ChunkRow]:
    """Return every chunk ever written up to ``step``, by id."""
    state = timeline.state(step)
    row = _rows_of(timeline, state, step)
    return [row(chunk_id) for chunk_id in sorted([*state.chunks, *state.evicted, *state.deleted])]


def chunk_row(timeline: Timeline, chunk_id: int, step: int | None = None) -> ChunkRow | None:
    """Return one chunk after ``step``, or None when there was none with this id."""
    state = timeline.state(step)
    known = chunk_id in state.chunks or chunk_id in state.evicted or chunk_id in state.deleted
    return _rows_of(timeline, state, step)(chunk_id) if known else None


def _rows_of(timeline: Timeline, state: ReplayState, step: int | None) -> Callable[[int], ChunkRow]:
    attention, written = timeline.attention_share(step), timeline.written_by(step)

    def row(chunk_id: int) -> ChunkRow:
        chunk, rule = state.chunks.get(chunk_id), ""
        if chunk is not None:
            what = "pinned" if chunk.pinned else "held"
        else:
            what = "evicted" if chunk_id in state.evicted else "deleted"
            gone = state.evicted[chunk_id] if what == "evicted" else state.deleted[chunk_id]
            chunk, rule = gone.chunk, gone.rule
        return ChunkRow(
            chunk_id, chunk.doc_id, chunk.index_in_doc, chunk.span, chunk.n_tokens, chunk.trigger_count, what,
            written - 1 - chunk_id, attention.get(chunk_id, 0.0), rule,
        )  # fmt: skip

    return row


ORDERS: dict[str, tuple[Callable[[ChunkRow], float], bool]] = {
    "Chunk, first to last": (lambda row: row.chunk_id, False),
    "Chunk, last to first": (lambda row: row.chunk_id, True),
    "Most triggered": (lambda row: row.trigger_count, True),
    "Least triggered": (lambda row: row.trigger_count, False),
    "Most attention": (lambda row: row.attention, True),
    "Oldest": (lambda row: row.age, True),
}
"""Orders of the table: key, and whether it falls. Equal ones stay by chunk id."""

STATES = ("any state", "held", "pinned", "evicted", "deleted")


class Filter(NamedTuple):
    """Which chunks the table shows: words they contain (any case), a document (None: all), a state, an
    order.
    """

    words: str = ""
    doc_id: int | None = None
    state: str = "any state"
    order: str = "Chunk, first to last"


def select(rows: Sequence[ChunkRow], wanted: Filter, documents: Documents) -> list[ChunkRow]:
    """Return the rows that meet a filter, in its order. ``held`` includes pinned ones."""
    states = {"held", "pinned"} if wanted.state == "held" else {wanted.state}
    words = wanted.words.casefold().split()
    kept = [
        row
        for row in rows
        if (wanted.doc_id is None or row.doc_id == wanted.doc_id)
        and (wanted.state == STATES[0] or row.state in states)
        and (not words or _contains(row, words, documents))
    ]
    key, falling = ORDERS.get(wanted.order, ORDERS["Chunk, first to last"])
    return sorted(kept, key=lambda row: -key(row) if falling else key(row))


def page_of(n_rows: int, page: int, size: int = PAGE) -> tuple[int, int, int]:
    """Return (page clipped to what exists, first row, row after the last) for pages counted from 1."""
    pages = max(1, -(-n_rows // size))
    page = min(max(1, int(page)), pages)
    return page, (page - 1) * size, min(page * size, n_rows)


HEADERS = ["Chunk", "State", "Triggers", "Attention %", "Age (chunks)", "Tokens", "Document", "Place",
           "Begins", "Why it left"]  # fmt: skip


def table(rows: Sequence[ChunkRow], documents: Documents) -> list[list[str | int | float]]:
    """Return the cells of rows in the order of :data:`HEADERS`: plain text, for a component that escapes
    it.
    """
    return [
        [
            chunk_number(row.chunk_id), row.state, row.trigger_count, round(100 * row.attention, 2), row.age,
            row.n_tokens, title_of(row.doc_id, documents), place_of(row, documents),
            one_line(text_of(row, documents), 80), row.rule,
        ]
        for row in rows
    ]  # fmt: skip


def title_of(doc_id: int, documents: Documents) -> str:
    """Return a document's title on one line."""
    document = documents.get(doc_id)
    return one_line(document.title, 60) if document else f"document {doc_id + 1}"


def place_of(row: ChunkRow, documents: Documents) -> str:
    """Return where a chunk stands: its page or chapter, and its position in the document, counted in chunks."""
    document = documents.get(row.doc_id)
    place = document.place(row.span) if document and document.text else ""
    return f"{place}, position {row.index_in_doc + 1}" if place else f"position {row.index_in_doc + 1}"


def text_of(row: ChunkRow, documents: Documents) -> str:
    """Return a chunk's text, "" when its document was removed."""
    document = documents.get(row.doc_id)
    return document.text[slice(*row.span)] if document else ""


def trigger_histogram(rows: Sequence[ChunkRow]) -> list[tuple[str, int, int]]:
    """Return bars (trigger counts, chunks held, chunks that left).

    Small counts have a bar each; above that every bar is twice as wide as the one before, for a few chunks are
    triggered hundreds of times and most of them hardly ever.
    """
    if not rows:
        return []
    most = max(row.trigger_count for row in rows)
    starts = list(range(9))
    while starts[-1] <= most:
        starts.append(2 * starts[-1])
    starts = [start for start in starts if start <= most] or [0]
    place = np.searchsorted(starts, [row.trigger_count for row in rows], side="right") - 1
    here = np.array([row.state in ("held", "pinned") for row in rows])
    held, left = (np.bincount(place[which], minlength=len(starts)) for which in (here, ~here))
    ends = [*(start - 1 for start in starts[1:]), most]
    names = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends)]
    return [(name, int(n), int(m)) for name, n, m in zip(names, held, left)]


RULES = {
    "trigger_count": "chunks with the fewest triggers leave first",
    "trigger_bands": "the oldest tenth leaves first, then those with the fewest triggers; the newest tenth stays",
    "fifo": "the oldest chunks leave first",
    "lru": "the chunks longest unused leave first",
    "decayed_count": "chunks with the fewest recent triggers leave first",
}
"""Who leaves a full bank, in words; a policy without words here is named as it is."""


def headline(timeline: Timeline, step: int | None = None) -> str:
    """Return the bank in one sentence of plain words; "" before anything was written."""
    state, fill = timeline.state(step), timeline.fill(step)
    if fill is None or not fill.written:
        return ""
    capacity = state.capacity_tokens
    share = f" of {number_words(capacity)} ({state.occupancy_tokens / capacity:.0%} full)" if capacity else ""
    pinned = sum(chunk.pinned for chunk in state.chunks.values())
    deleted = f", {number_words(len(state.deleted))} deleted" if state.deleted else ""
    return (
        f"{plural(fill.written, 'chunk')} read, {number_words(len(state.chunks))} in memory, "
        f"{number_words(len(state.evicted))} evicted{deleted}, {number_words(pinned)} pinned. "
        f"{plural(state.occupancy_tokens, 'token')} held{share}"
        + (f"; when it is full, {RULES.get(state.policy, state.policy)}." if state.policy else ".")
    )


def _contains(row: ChunkRow, words: Sequence[str], documents: Documents) -> bool:
    text = text_of(row, documents).casefold()
    return all(word in text or word == str(chunk_number(row.chunk_id)) for word in words)
