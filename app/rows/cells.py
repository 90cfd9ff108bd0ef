"""The memory map as arrays: one cell a chunk, or one a slot of the bank. No HTML here, and no colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.rows.timeline import Timeline
from memlong.trace.replay import ChunkView, ReplayState

HELD, PINNED, EVICTED, DELETED, EMPTY = range(5)
"""What a cell shows: a chunk in the bank, one that may not leave, one that left, one that was deleted, or none (a chunk
not read yet, or a free slot)."""

COLOURS: dict[str, str] = {
    "triggers": "Trigger count",
    "age": "Age",
    "document": "Document",
    "attention": "Attention",
}
"""What a cell's colour can mean, and its name on the page."""

ARRANGEMENTS: dict[str, str] = {"read": "Everything read", "bank": "The bank's slots"}
"""``read``: every chunk of every document in reading order, with what was evicted and what is still to be
read. ``bank``: what is held by rising chunk id, then the free slots."""


@dataclass(frozen=True)
class Cells:
    """All cells of a map, n of them.

    Attributes:
        chunk_ids: int32, -1 where there is no chunk (yet). states: uint8, see above. levels: uint8, place on the
            colour ramp, 0 is ``low`` and 255 is ``high``. counts: uint16, triggers. docs: uint16, document ids.
            indices: uint32, place in its document.
        low, high: what the ends of the ramp stand for. recent: ids of the chunks that the last search found.
    """

    chunk_ids: np.ndarray
    states: np.ndarray
    levels: np.ndarray
    counts: np.ndarray
    docs: np.ndarray
    indices: np.ndarray
    low: float
    high: float
    recent: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.chunk_ids)

    def count(self, *states: int) -> int:
        """Return how many cells are in one of these states."""
        return int(np.isin(self.states, states).sum())


def map_cells(
    timeline: Timeline, step: int | None = None, colour: str = "triggers", arrangement: str = "read"
) -> Cells:
    """Return the cells of a map after ``step``; None is now.

    Args:
        colour: a key of :data:`COLOURS`. arrangement: a key of :data:`ARRANGEMENTS`.
    """
    state = timeline.state(step)
    rows = _bank(state, timeline.chunk_tokens) if arrangement == "bank" else _read(state)
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    chunk_ids, states, counts, docs, indices = table.T
    value = _value(colour, table, timeline, step)
    known = (chunk_ids >= 0) & (states <= PINNED)
    low, high = 0.0, float(value[known].max()) if known.any() else 0.0
    levels = np.clip(value / high, 0, 1) * 255 if high > 0 else np.zeros(len(value))
    return Cells(
        chunk_ids.astype(np.int32),
        states.astype(np.uint8),
        np.rint(levels).astype(np.uint8),
        np.minimum(counts, 65_535).astype(np.uint16),
        np.minimum(docs, 65_535).astype(np.uint16),
        indices.astype(np.uint32),
        low,
        high,
        timeline.last_hits(step),
    )


def _value(colour: str, table: np.ndarray, timeline: Timeline, step: int | None) -> np.ndarray:
    chunk_ids, counts, docs = table[:, 0], table[:, 2], table[:, 3]
    if colour == "age":  # ids count the chunks ever written
        return np.where(chunk_ids < 0, 0, timeline.written_by(step) - 1 - chunk_ids).astype(np.float64)
    if colour == "attention":
        mass = timeline.attention_share(step)
        return np.array([mass.get(int(chunk_id), 0.0) for chunk_id in chunk_ids], dtype=np.float64)
    return (docs if colour == "document" else counts).astype(np.float64)


Row = tuple[int, int, int, int, int]


def _read(state: ReplayState) -> list[Row]:
    """Return (chunk id, state, triggers, document, index in it) of every chunk, read or not, in reading
    order.
    """
    rows = [_row(id, PINNED if chunk.pinned else HELD, chunk) for id, chunk in state.chunks.items()]
    rows += [_row(id, EVICTED, gone.chunk) for id, gone in state.evicted.items()]
    rows += [
        _row(id, DELETED, gone.chunk)
        for id, gone in state.deleted.items()
        if state.documents.get(gone.chunk.doc_id, None) is None
        or state.documents[gone.chunk.doc_id].status != "removed"
    ]
    # A spilled conversation was never opened as a document, so nothing of it is outstanding.
    seen: dict[int, int] = {}
    for row in rows:
        seen[row[3]] = max(seen.get(row[3], 0), row[4] + 1)
    rows += [
        (-1, EMPTY, 0, doc_id, index)
        for doc_id, document in state.documents.items()
        if document.status in ("reading", "cancelled")
        for index in range(seen.get(doc_id, 0), document.n_chunks)
    ]
    return sorted(rows, key=lambda row: (row[3], row[4]))


def _bank(state: ReplayState, chunk_tokens: int) -> list[Row]:
    rows = sorted(_row(id, PINNED if chunk.pinned else HELD, chunk) for id, chunk in state.chunks.items())
    slots = -(-(state.capacity_tokens or 0) // chunk_tokens) if chunk_tokens else 0
    return rows + [(-1, EMPTY, 0, 0, 0)] * (slots - len(rows))


def _row(chunk_id: int, state: int, chunk: ChunkView) -> Row:
    return chunk_id, state, chunk.trigger_count, chunk.doc_id, chunk.index_in_doc
