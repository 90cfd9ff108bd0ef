"""The event log, a window at a time: filtered here, so that nothing is sent that is not shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.rows.chunks import Documents
from app.rows.timeline import Timeline
from app.rows.words import KINDS, event_words
from memlong.trace.events import Event, LayerMass, Retrieved, TokenGenerated
from memlong.trace.recorder import chunks_of

HEADERS = ["Event", "What", "In words"]


class LogFilter(NamedTuple):
    """Which events the log shows; None and empty tuples mean all.

    Attributes:
        kinds: class names; when empty, all but single tokens and single layers, of which there are thousands.
        doc_id, chunk_id: events about it. until: the last step shown.
    """

    kinds: tuple[str, ...] = ()
    doc_id: int | None = None
    chunk_id: int | None = None
    until: int | None = None


def log_events(timeline: Timeline, wanted: LogFilter) -> list[Event]:
    """Return the events that meet a filter, newest first."""
    events = timeline.events[: None if wanted.until is None else wanted.until + 1]
    kinds = set(wanted.kinds)
    return [
        event
        for event in reversed(events)
        if (event.kind in kinds if kinds else not isinstance(event, LayerMass | TokenGenerated))
        and (wanted.chunk_id is None or wanted.chunk_id in chunks_of(event))
        and (wanted.doc_id is None or _about(event, wanted.doc_id, timeline))
    ]


def log_table(events: Sequence[Event], timeline: Timeline, documents: Documents) -> list[list[str | int]]:
    """Return the cells of events in the order of :data:`HEADERS`: plain text, for a component that escapes
    it.
    """
    return [
        [event.step, KINDS.get(event.kind, event.kind), event_words(event, timeline, documents)] for event in events
    ]


def _about(event: Event, doc_id: int, timeline: Timeline) -> bool:
    """Say whether an event is about a document: its own, one of its chunks, or one that was found for it."""
    if (own := getattr(event, "doc_id", None)) is not None and own == doc_id:
        return True
    if own is not None and not isinstance(event, Retrieved):
        return False
    return any(timeline.documents_of.get(chunk_id, (-1, 0))[0] == doc_id for chunk_id in chunks_of(event))
