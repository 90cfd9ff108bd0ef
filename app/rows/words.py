"""Events in plain words. What comes out holds titles and questions as they are: escape it before it is
HTML.
"""

from __future__ import annotations

from app.rows.chunks import Documents, title_of
from app.rows.timeline import Timeline
from app.text import chunk_number, duration_words, number_words, one_line, plural
from memlong.trace import events as e

KINDS: dict[str, str] = {
    "ChunkWritten": "written",
    "Retrieved": "retrieved",
    "Evicted": "evicted",
    "Pinned": "pinned",
    "Unpinned": "unpinned",
    "Deleted": "deleted",
    "Restored": "restored",
    "DocumentOpened": "document opened",
    "DocumentClosed": "document closed",
    "QuestionAsked": "question asked",
    "TokenGenerated": "token generated",
    "LayerMass": "attention in a layer",
    "AnswerFinished": "answer finished",
    "CapacityChanged": "capacity or policy",
}
"""Every kind of event, and what the page calls it."""


def mass_words(mass: float | None) -> str:
    """Return attention mass as a share of all attention: ``3.2%``; "" for None."""
    return "" if mass is None else "under 0.1%" if 0 < mass < 0.001 else f"{mass:.1%}"


def query_words(event: e.Retrieved, timeline: Timeline, documents: Documents) -> str:
    """Return what a search was made with."""
    if event.query == "chunk":
        doc_id = event.doc_id if event.doc_id is not None else -1
        chunk_id = timeline.ids_of.get((doc_id, event.query_id))  # it is written only after its search
        name = f"position {event.query_id + 1}" if chunk_id is None else f"chunk {chunk_number(chunk_id)}"
        return f"{name} of {title_of(doc_id, documents)} while it was read"
    question = one_line(timeline.questions.get(event.query_id, ""), 120)
    number = timeline.number_of(event.query_id)
    if event.query == "question":
        return f"question {number}: {question}"
    return f"question {number} and the newest words of its answer"


def event_words(event: e.Event, timeline: Timeline, documents: Documents) -> str:
    """Return one event as a sentence of plain text."""
    words = _of_chunk(event, documents) or _of_answer(event, timeline)
    if words:
        return words
    if isinstance(event, e.Retrieved):
        found = ", ".join(f"{chunk_number(hit.chunk_id)} ({hit.score:.3f})" for hit in event.hits)
        return f"Retrieved chunks {found} by {query_words(event, timeline, documents)}"
    if isinstance(event, e.DocumentOpened):
        return (
            f"Opened {one_line(event.title, 60)}: {plural(event.n_tokens, 'token')} in "
            f"{plural(event.n_chunks, 'chunk')}"
        )
    if isinstance(event, e.DocumentClosed):
        after = f"{plural(event.chunks_read, 'chunk')} read in {duration_words(event.seconds)}"
        return f"Document {title_of(event.doc_id, documents)} {_ended(event.status)}: {after}"
    if isinstance(event, e.CapacityChanged):
        return f"Capacity {plural(event.capacity_tokens, 'token')}, policy {event.policy}"
    return event.kind


def _of_chunk(event: e.Event, documents: Documents) -> str:
    if isinstance(event, e.ChunkWritten):
        title = title_of(event.doc_id, documents)
        where = f"{title}, position {event.index_in_doc + 1}"
        return f"Chunk {chunk_number(event.chunk_id)} written: {where}, {plural(event.n_tokens, 'token')}"
    if isinstance(event, e.Evicted):
        return (
            f"Chunk {chunk_number(event.chunk_id)} evicted by {event.policy}: {event.rule}; "
            f"{number_words(event.occupancy_tokens)} tokens held, "
            f"{number_words(event.capacity_tokens)} allowed"
        )
    if isinstance(event, e.Pinned):
        return f"Chunk {chunk_number(event.chunk_id)} pinned: it cannot be evicted"
    if isinstance(event, e.Unpinned):
        return f"Chunk {chunk_number(event.chunk_id)} unpinned: it can be evicted again"
    if isinstance(event, e.Deleted):
        return f"Chunk {chunk_number(event.chunk_id)} deleted by request"
    if isinstance(event, e.Restored):
        count = plural(event.trigger_count, "trigger")
        return f"Chunk {chunk_number(event.chunk_id)} brought back with its {count}; its window was read again"
    return ""


def _of_answer(event: e.Event, timeline: Timeline) -> str:
    number = timeline.number_of(getattr(event, "answer_id", 0))
    if isinstance(event, e.QuestionAsked):
        question = one_line(event.question, 160)
        own = "a step of" if timeline.step_of(event.answer_id) else "for"
        step = f" ({own}: {one_line(event.step_of, 160)})" if event.step_of else ""
        return f"Question {number}, answered from {event.answer_from}: {question}{step}"
    if isinstance(event, e.TokenGenerated):
        mass = f", {mass_words(event.memory_mass)} of attention on memory" if event.memory_mass is not None else ""
        return f"Token {event.index + 1} of answer {number}: {event.text!r}{mass}"
    if isinstance(event, e.LayerMass):
        return (
            f"Layer {event.layer}, token {event.index + 1} of answer {number}: "
            f"{mass_words(1 - event.local_mass)} of attention on memory"
        )
    if isinstance(event, e.AnswerFinished):
        mass = f", {mass_words(event.memory_mass)} of attention on memory" if event.memory_mass is not None else ""
        low = "; little evidence" if event.low_evidence else ""
        return f"Answer {number} finished ({_ended(event.stop_reason)}), {plural(event.n_tokens, 'token')}{mass}{low}"
    return ""


def _ended(how: str) -> str:
    """Return how reading or an answer ended, in the words of the buttons."""
    return "stopped" if how == "cancelled" else how
