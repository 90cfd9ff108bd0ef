"""What can happen in a session. Each event is a frozen dataclass; its class name is its kind.

Times are in seconds, masses are shares of attention between 0 and 1, spans are character offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from memlong.errors import PersistError, unknown_name


class Hit(NamedTuple):
    """A chunk among the top-k.

    Attributes:
        chunk_id: the chunk. score: inner product of its embedding with the query's; of a question that looks twice,
            half of it and half its best part's. rank: 1 for the best.
        trigger_count: its triggers, this one included.
    """

    chunk_id: int
    score: float
    rank: int
    trigger_count: int


Mass = tuple[tuple[int, float], ...]
"""Attention mass by chunk: (chunk id, share) pairs."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        step: the session's event clock: 0 for its first event, then 1, 2 ... Given by the recorder; -1
            before.
    """

    step: int = field(default=-1, kw_only=True)

    @property
    def kind(self) -> str:
        """The class name."""
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-safe values, ``kind`` and ``step`` first."""
        own = {name: getattr(self, name) for name in field_names(type(self)) if name != "step"}
        return {"kind": self.kind, "step": self.step} | own


@dataclass(frozen=True, slots=True)
class DocumentOpened(Event):
    """A document is about to be read."""

    doc_id: int
    title: str
    n_tokens: int
    n_chunks: int
    n_characters: int


@dataclass(frozen=True, slots=True)
class DocumentClosed(Event):
    """Reading ended, or the document was removed with all its chunks.

    Attributes:
        status: ``done``, ``cancelled``, ``failed`` or ``removed``. chunks_read: since it was opened.
    """

    doc_id: int
    status: str
    chunks_read: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ChunkWritten(Event):
    """A chunk was stored. ``window`` counts the windows of its document."""

    chunk_id: int
    doc_id: int
    index_in_doc: int
    span: tuple[int, int]
    n_tokens: int
    window: int


@dataclass(frozen=True, slots=True)
class Retrieved(Event):
    """The bank was searched, and the hits were triggered.

    Attributes:
        query: ``chunk`` (one being read), ``question``, or ``newest`` (question and newest text of an
            answer).
        query_id: index_in_doc of the chunk being read, or the answer's id. doc_id: of that chunk, else None.
    """

    query: str
    query_id: int
    doc_id: int | None
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Evicted(Event):
    """A chunk left because the bank was full.

    Attributes:
        policy, rule: who decided, and why in words for people. age_chunks: chunks written since it was.
        occupancy_tokens: tokens held before it left. capacity_tokens: tokens that may be held.
    """

    chunk_id: int
    doc_id: int
    policy: str
    rule: str
    trigger_count: int
    age_chunks: int
    occupancy_tokens: int
    capacity_tokens: int


@dataclass(frozen=True, slots=True)
class Pinned(Event):
    """A chunk may no longer be evicted."""

    chunk_id: int


@dataclass(frozen=True, slots=True)
class Unpinned(Event):
    """A chunk may be evicted again."""

    chunk_id: int


@dataclass(frozen=True, slots=True)
class Deleted(Event):
    """A chunk was removed by request."""

    chunk_id: int


@dataclass(frozen=True, slots=True)
class Restored(Event):
    """A chunk that had left is back, with its old trigger count."""

    chunk_id: int
    doc_id: int
    index_in_doc: int
    span: tuple[int, int]
    n_tokens: int
    trigger_count: int


@dataclass(frozen=True, slots=True)
class CapacityChanged(Event):
    """Capacity or policy, from here on. A session starts with one of these."""

    capacity_tokens: int
    policy: str


@dataclass(frozen=True, slots=True)
class QuestionAsked(Event):
    """A question was asked.

    Attributes:
        question: as memory was searched with it. documents: limit the search; None asks all.
        step_of: the question that this one is a step of, as it was asked; "" for one that is asked as it stands.
    """

    answer_id: int
    question: str
    answer_from: str
    top_k: int
    documents: tuple[int, ...] | None
    step_of: str = ""


@dataclass(frozen=True, slots=True)
class TokenGenerated(Event):
    """One token of an answer.

    Attributes:
        index: 0, 1, 2 ... in the answer. logprob: natural logarithm of its probability.
        memory_mass, chunk_mass: mean over retrieval layers and heads; None when it was not asked for.
    """

    answer_id: int
    index: int
    token_id: int
    text: str
    logprob: float
    memory_mass: float | None = None
    chunk_mass: Mass | None = None


@dataclass(frozen=True, slots=True)
class LayerMass(Event):
    """Where one generated token looked, in one retrieval layer.

    Attributes:
        local_mass, chunk_mass: mean over heads. head_mass: the memory's share for each head, or None.
        head_chunk_mass: for each head, its shares of the chunks in the order of ``chunk_mass``, or None.
    """

    answer_id: int
    index: int
    layer: int
    local_mass: float
    chunk_mass: Mass
    head_mass: tuple[float, ...] | None = None
    head_chunk_mass: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class AnswerFinished(Event):
    """An answer is complete.

    Attributes:
        seconds: by part of the work. memory_mass: mean over tokens; None when not asked for.
        low_evidence: whether scores, doubt or mass say that the text may not hold the answer.
    """

    answer_id: int
    text: str
    stop_reason: str
    seconds: Mapping[str, float]
    n_tokens: int
    memory_mass: float | None
    low_evidence: bool


EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        DocumentOpened,
        DocumentClosed,
        ChunkWritten,
        Retrieved,
        Evicted,
        Pinned,
        Unpinned,
        Deleted,
        Restored,
        CapacityChanged,
        QuestionAsked,
        TokenGenerated,
        LayerMass,
        AnswerFinished,
    )
}
"""Every kind by name."""

_NAMES: dict[type[Event], tuple[str, ...]] = {}


def field_names(kind: type[Event]) -> tuple[str, ...]:
    """Return the fields of a kind, in the order of its definition."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(each.name for each in fields(kind))
    return _NAMES[kind]


def from_dict(values: Mapping[str, Any]) -> Event:
    """Return the event that :meth:`Event.to_dict` was asked of, also after a way through JSON.

    Raises:
        PersistError: for an unknown kind, and for missing or unknown fields.
    """
    given = dict(values)
    name = given.pop("kind", None)
    kind = EVENTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise unknown_name("kind of event", name, EVENTS, PersistError)
    own: dict[str, Any] = {key: _tuples(value) if isinstance(value, list) else value for key, value in given.items()}
    try:
        if kind is Retrieved:
            own["hits"] = tuple(Hit(*hit) for hit in own.get("hits", ()))
        return kind(**own)
    except TypeError as error:
        raise PersistError(
            f"An event {name} with the fields {sorted(own)}",
            f"Its fields are {', '.join(field_names(kind))}",
            "Open the trace with the version that wrote it",
        ) from error


def _tuples(values: list[Any]) -> tuple[Any, ...]:
    """Undo what JSON does to tuples, at every depth."""
    return tuple(_tuples(value) if isinstance(value, list) else value for value in values)
