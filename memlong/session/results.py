"""What a session hands out: progress, evidence, answers. Plain values, so any caller can show or send them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from memlong.chunking import PageSpan, place


@dataclass
class DocumentState:
    """One document of a session.

    Attributes:
        doc_id: counts up from 0. title, text, spans: as given. n_tokens: of the whole text.
        chunks_total, chunks_read: chunks it has, and how many were read so far.
        status: "reading", "done", "cancelled" (left in the middle) or "removed". seconds: spent reading.
    """

    doc_id: int
    title: str
    text: str
    spans: tuple[PageSpan, ...] = ()
    n_tokens: int = 0
    chunks_total: int = 0
    chunks_read: int = 0
    status: str = "reading"
    seconds: float = 0.0

    def place(self, span: tuple[int, int]) -> str:
        """Return where a span lies, in words ("page 12", "Chapter 3"), or "" when the document has no parts."""
        return place(self.spans, *span)


@dataclass(frozen=True)
class ReadProgress:
    """How far reading is, after one batch of windows.

    Attributes:
        evicted: chunks that left during this batch. tokens_per_second: mean of this run; seconds_left: at that speed.
    """

    doc_id: int
    title: str
    chunks_done: int
    chunks_total: int
    tokens_done: int
    tokens_total: int
    seconds: float
    tokens_per_second: float
    seconds_left: float
    evicted: int


@dataclass(frozen=True)
class ReadEstimate:
    """What reading a text will take, known before the start.

    Attributes:
        bank_share: of the bank's capacity, above 1 when chunks will have to leave. bytes: of K-V it will occupy.
        seconds: at the speed of earlier reading in this process; None before the first.
    """

    n_tokens: int
    n_chunks: int
    bank_share: float
    bytes: int
    seconds: float | None


@dataclass(frozen=True)
class ReadReport:
    """What came of reading one document.

    Attributes:
        too_long: chunks longer than the embedder takes at once (embedded in parts, nothing is cut).
    """

    doc_id: int
    title: str
    n_tokens: int
    chunks_read: int
    chunks_kept: int
    evicted: int
    seconds: float
    status: str
    too_long: int = 0


_WORTH_TELLING = 0.1  # how likely words are the answer that people hear of


@dataclass(frozen=True)
class Pointed:
    """Words of a retrieved chunk that may be the answer, as the retriever has it.

    Attributes:
        span: characters of the document's text. text: the words. likely: how likely they are the answer, 0 to 1.
    """

    span: tuple[int, int]
    text: str
    likely: float


@dataclass(frozen=True)
class Evidence:
    """One retrieved chunk beside an answer.

    Attributes:
        rank: 1 is the best score. score: cosine of query and chunk, with ``hybrid`` a weighted mean of two cosines;
            after a second look half of it and half the best part's.
        attention_mass: share of all attention that the answer's tokens paid to it, mean over retrieval layers and
            heads; None when nobody looked.
        trigger_count_before, trigger_count: before and after this answer. place: page or chapter, in words.
        span: characters of the document's text. text: the chunk itself.
        superseded: whether a later chunk of its document answers as surely, so that memory looks at it less.
        pointed: words of it that may be the answer, likeliest first; none where nobody points at any.
    """

    chunk_id: int
    rank: int
    score: float
    attention_mass: float | None
    trigger_count_before: int
    trigger_count: int
    doc_id: int
    title: str
    place: str
    span: tuple[int, int]
    text: str
    superseded: bool = False
    pointed: tuple[Pointed, ...] = ()

    @property
    def points_at(self) -> Pointed | None:
        """The likeliest words of ``pointed``, where they are worth telling of; less likely ones are many."""
        return self.pointed[0] if self.pointed and self.pointed[0].likely >= _WORTH_TELLING else None


@dataclass(frozen=True)
class AnswerDelta:
    """An answer while it is written: all text so far, what is new, and the evidence as known by now.

    Attributes:
        steps: what is asked before the question itself, and the answers so far; while the last of them is being
            written, ``text`` is empty and the evidence its own.
    """

    text: str
    delta: str
    n_tokens: int
    evidence: tuple[Evidence, ...]
    steps: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    """A finished answer.

    Attributes:
        answer_id: of the last step for one that was stopped in its steps.
        question: as it was asked. asked: as memory was asked in the end, with the name that a follow-up leaves to the
            question before it, and what the steps found in its place; "" when it was stopped before.
        steps: the answers to what had to be found first, in their order; mostly none.
        retrieved: every chunk fetched for it, best first; those of the steps are theirs.
        evicted: chunks that left while answering.
        chunks_read, chunks_kept: of all documents that were not removed, when it was asked.
        seconds: wall time of embed, search, gather, prefill and decode, steps included. logprob: sum over its tokens.
        memory_mass: share of attention that fell on memory; None when nobody looked.
        low_evidence: whether score, the retriever's doubt or attention say that the text may not hold the answer.
        reading: documents that were still being read, in words, or "".
    """

    answer_id: int
    question: str
    text: str
    retrieved: tuple[Evidence, ...]
    evicted: tuple[int, ...]
    chunks_read: int
    chunks_kept: int
    seconds: dict[str, float]
    n_tokens: int
    stop_reason: str
    memory_mass: float | None
    logprob: float
    low_evidence: bool
    answer_from: str = "memory"
    reading: str = ""
    token_texts: tuple[str, ...] = field(default=(), repr=False)
    token_ids: tuple[int, ...] = field(default=(), repr=False)
    asked: str = ""
    steps: tuple[Answer, ...] = ()

    @property
    def asked_first(self) -> tuple[tuple[str, str], ...]:
        """What its steps asked and found, as :attr:`AnswerDelta.steps` tells it."""
        return told(self.steps)

    @property
    def stopped_in_steps(self) -> bool:
        """Whether it was stopped while its steps were asked, before the question itself was."""
        return bool(self.steps) and not self.asked

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Every chunk fetched for it and its steps, those of the last question first, each once."""
        found: dict[int, Evidence] = {}
        for answer in (self, *reversed(self.steps)):
            for item in answer.retrieved:
                found.setdefault(item.chunk_id, item)
        return tuple(found.values())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-safe values; ``answer`` is the text."""
        values = asdict(self)
        values["answer"] = values.pop("text")
        values["steps"] = [step.to_dict() for step in self.steps]
        return values


def told(steps: Iterable[Answer]) -> tuple[tuple[str, str], ...]:
    """Return what steps asked and found."""
    return tuple((step.question, step.text) for step in steps)
