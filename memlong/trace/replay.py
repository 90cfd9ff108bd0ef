"""The state of a bank at any step of a trace, rebuilt from events alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from memlong.errors import PersistError
from memlong.trace.events import (
    CapacityChanged,
    ChunkWritten,
    Deleted,
    DocumentClosed,
    DocumentOpened,
    Event,
    Evicted,
    Pinned,
    Restored,
    Retrieved,
    Unpinned,
)

_MOST_KEPT = 64  # states of a replayer; each takes some machine words for every chunk seen


class ChunkView(NamedTuple):
    """A chunk at one step; see :class:`memlong.bank.ledger.ChunkRecord`."""

    doc_id: int
    index_in_doc: int
    span: tuple[int, int]
    n_tokens: int
    trigger_count: int
    pinned: bool
    written_step: int


class Departure(NamedTuple):
    """A chunk that has left: as it was, when it left, and the rule in words for people."""

    chunk: ChunkView
    step: int
    rule: str


class DocumentView(NamedTuple):
    """A document at one step; ``status`` is ``reading`` until it is closed."""

    title: str
    n_tokens: int
    n_chunks: int
    status: str


@dataclass
class ReplayState:
    """A bank at one step.

    Attributes:
        step: of the last event seen, -1 before the first. chunks: those held, by id, in the order they came.
        evicted, deleted: those that have left and not come back, by id.
        documents: all that were opened, by id. occupancy_tokens: tokens held.
        capacity_tokens, policy: as set last; None before.
    """

    step: int = -1
    chunks: dict[int, ChunkView] = field(default_factory=dict)
    evicted: dict[int, Departure] = field(default_factory=dict)
    deleted: dict[int, Departure] = field(default_factory=dict)
    documents: dict[int, DocumentView] = field(default_factory=dict)
    occupancy_tokens: int = 0
    capacity_tokens: int | None = None
    policy: str | None = None

    def copy(self) -> ReplayState:
        """Return an independent state; views are immutable and shared."""
        return replace(
            self,
            chunks=self.chunks.copy(),
            evicted=self.evicted.copy(),
            deleted=self.deleted.copy(),
            documents=self.documents.copy(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; chunks and documents as lists of objects with their ids."""
        left = {"evicted": self.evicted, "deleted": self.deleted}
        return {
            "step": self.step,
            "capacity_tokens": self.capacity_tokens,
            "policy": self.policy,
            "occupancy_tokens": self.occupancy_tokens,
            "documents": [{"doc_id": id} | each._asdict() for id, each in self.documents.items()],
            "chunks": [{"chunk_id": id} | each._asdict() for id, each in self.chunks.items()],
        } | {
            name: [{"chunk_id": id, "step": d.step, "rule": d.rule} | d.chunk._asdict() for id, d in gone.items()]
            for name, gone in left.items()
        }

    def apply(self, event: Event) -> None:
        """Go one event further.

        Raises:
            PersistError: when the event speaks of a chunk that is not held: part of the trace is missing.
        """
        if (change := _CHANGES.get(type(event))) is not None:
            change(self, event)
        self.step = event.step

    def held(self, chunk_id: int, event: Event) -> ChunkView:
        """Return the view of a chunk that the event needs to be held."""
        view = self.chunks.get(chunk_id)
        if view is None:
            raise PersistError(
                f"{event.kind} at step {event.step} speaks of chunk {chunk_id}, which is not in the bank",
                "A whole trace: every chunk is written before anything else happens to it",
                "Replay the trace from its beginning",
            )
        return view


def rebuild(events: Sequence[Event], step: int | None = None) -> ReplayState:
    """Return the state after all events up to and with ``step``; None goes to the end.

    Args:
        events: a trace from its beginning.
    """
    state = ReplayState()
    for event in events if step is None else events[: max(0, step + 1)]:
        state.apply(event)
    return state


class Replayer:
    """Jumps to any step of a long trace: keeps the state now and then, and replays from the one before.

    Args:
        events: a trace from its beginning; it may go on growing.
        every: events between two kept states, to begin with. It doubles whenever the states become too many.
    """

    def __init__(self, events: Sequence[Event], every: int = 1024) -> None:
        self._events, self._every = events, max(1, every)
        self._kept = [ReplayState()]  # the n-th is the state after n * every events

    def at(self, step: int) -> ReplayState:
        """Return the state after all events up to and with ``step``, the caller's own; beyond the end, the
        last.

        Raises:
            PersistError: when the trace is not whole.
        """
        wanted = min(max(0, step + 1), len(self._events))
        while len(self._kept) <= wanted // self._every:
            done = (len(self._kept) - 1) * self._every
            self._kept.append(self._run(self._kept[-1], done, done + self._every))
            if len(self._kept) > _MOST_KEPT:
                self._kept, self._every = self._kept[::2], 2 * self._every
        nearest = wanted // self._every
        return self._run(self._kept[nearest], nearest * self._every, wanted)

    def _run(self, state: ReplayState, start: int, end: int) -> ReplayState:
        state = state.copy()
        for event in self._events[start:end]:
            state.apply(event)
        return state


def _opened(state: ReplayState, event: DocumentOpened) -> None:
    state.documents[event.doc_id] = DocumentView(event.title, event.n_tokens, event.n_chunks, "reading")


def _closed(state: ReplayState, event: DocumentClosed) -> None:
    if (document := state.documents.get(event.doc_id)) is not None:
        state.documents[event.doc_id] = document._replace(status=event.status)
    if event.status == "removed":
        for chunk_id in [id for id, chunk in state.chunks.items() if chunk.doc_id == event.doc_id]:
            _leave(state, state.deleted, chunk_id, event, "its document was removed")


def _written(state: ReplayState, event: ChunkWritten) -> None:
    view = ChunkView(event.doc_id, event.index_in_doc, event.span, event.n_tokens, 0, False, event.step)
    state.chunks[event.chunk_id] = view
    state.occupancy_tokens += event.n_tokens


def _retrieved(state: ReplayState, event: Retrieved) -> None:
    for hit in event.hits:
        view = state.held(hit.chunk_id, event)
        state.chunks[hit.chunk_id] = view._replace(trigger_count=hit.trigger_count)


def _evicted(state: ReplayState, event: Evicted) -> None:
    _leave(state, state.evicted, event.chunk_id, event, event.rule)


def _deleted(state: ReplayState, event: Deleted) -> None:
    _leave(state, state.deleted, event.chunk_id, event, "deleted by request")


def _restored(state: ReplayState, event: Restored) -> None:
    gone = [left.pop(event.chunk_id, None) for left in (state.evicted, state.deleted)]
    written = next((departure.chunk.written_step for departure in gone if departure), event.step)
    state.chunks[event.chunk_id] = ChunkView(
        event.doc_id, event.index_in_doc, event.span, event.n_tokens, event.trigger_count, False, written
    )
    state.occupancy_tokens += event.n_tokens


def _pinned(state: ReplayState, event: Pinned) -> None:
    state.chunks[event.chunk_id] = state.held(event.chunk_id, event)._replace(pinned=True)


def _unpinned(state: ReplayState, event: Unpinned) -> None:
    state.chunks[event.chunk_id] = state.held(event.chunk_id, event)._replace(pinned=False)


def _capacity(state: ReplayState, event: CapacityChanged) -> None:
    state.capacity_tokens, state.policy = event.capacity_tokens, event.policy


def _leave(state: ReplayState, into: dict[int, Departure], chunk_id: int, event: Event, rule: str) -> None:
    view = state.held(chunk_id, event)
    del state.chunks[chunk_id]
    into[chunk_id] = Departure(view, event.step, rule)
    state.occupancy_tokens -= view.n_tokens


_CHANGES: dict[type[Event], Callable[[ReplayState, Any], None]] = {
    DocumentOpened: _opened,
    DocumentClosed: _closed,
    ChunkWritten: _written,
    Retrieved: _retrieved,
    Evicted: _evicted,
    Deleted: _deleted,
    Restored: _restored,
    Pinned: _pinned,
    Unpinned: _unpinned,
    CapacityChanged: _capacity,
}
