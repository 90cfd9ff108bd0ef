"""Experiments of a visitor: one question answered four ways, and a sentence hidden in a text. No gradio, no torch.

Each is a generator whose steps take turns at the model like reading and asking do, and which ends early when
``visit.stop_lab`` is set; what was found until then is kept. ``app.replaying`` and ``app.what_if`` hold the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app import asking
from app.sessions import Visit
from app.text import shorten
from memlong.config import ANSWER_FROM, AskOptions
from memlong.errors import ConfigError

if TYPE_CHECKING:
    from memlong.evaluation.needle import Needle, Step, Try
    from memlong.session.results import Answer, DocumentState
    from memlong.session.session import Session

NEEDLE_TOKENS = 16_384  # of the text that a sentence may be hidden in: it is read anew for every place
MOST_PLACES = 16
_CHARACTERS_A_TOKEN = 3.9


@contextmanager
def experiment(visit: Visit, asks: bool = False) -> Iterator[Session]:
    """Hold the visitor's one place for experiments.

    Args:
        asks: whether it answers questions from this memory; then it and the visitor's own question take turns.

    Raises:
        ConfigError: before anything was read, while another experiment runs, or while an answer is being written.
    """
    session = visit.session
    if session is None or not session.chunks_read:
        raise ConfigError("Nothing has been read yet", "A document in memory", "Open the tab Read and take a sample")
    with visit.lock:
        if visit.experimenting:
            raise ConfigError("An experiment is running", "One at a time", "Wait for it, or press the Stop beside it")
        if asks and visit.answering:
            raise ConfigError(
                "An answer is being written on the tab Ask", "One question at a time", "Wait for it, or stop it there"
            )
        visit.experimenting, visit.comparing = True, asks
        visit.stop_lab.clear()
    try:
        yield session
    finally:
        visit.experimenting = visit.comparing = False


def stop(visit: Visit) -> None:
    """End the running experiment at its next step."""
    visit.stop_lab.set()


@dataclass(frozen=True)
class Ways:
    """One question answered in several ways.

    Attributes:
        answers: way -> the finished answer, or its text so far.
        steps: way -> what it asked before, and found so far; every way asks for itself.
        with_memory, without: log-probability of the answer from memory, with its chunks and with none; None until
            known.
    """

    answers: Mapping[str, Answer | str]
    steps: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    with_memory: float | None = None
    without: float | None = None


def four_ways(visit: Visit, question: str, options: AskOptions) -> Iterator[Ways]:
    """Answer one question in every way with the same retriever and seed; yields the answers while they grow.

    It is asked from aside: the memory counts no trigger, and neither trace nor conversation hears of it.

    Raises:
        ConfigError: see :func:`app.asking.refuse`, and when nothing was read.
    """
    from memlong.evaluation.aside import aside
    from memlong.evaluation.counterfactual import answer_logprob
    from memlong.session.results import Answer

    asking.refuse(visit, question, options)
    found: dict[str, Answer | str] = {}
    before: dict[str, tuple[tuple[str, str], ...]] = {}
    with experiment(visit, asks=True) as session:
        yield Ways({})
        for way in ANSWER_FROM:
            found[way] = ""
            onlooker = visit.engine.run(aside, session)
            steps = onlooker.stream(question, replace(options, answer_from=way), visit.stop_lab.is_set)
            for step in visit.engine.steps(steps, "question"):
                if isinstance(step, Answer):
                    found[way], before[way] = step, step.asked_first
                else:
                    found[way], before[way] = step.text, step.steps
                yield Ways(dict(found), dict(before))
            if visit.stop_lab.is_set():
                return
        answer = found["memory"]
        assert isinstance(answer, Answer)
        onlooker = visit.engine.run(aside, session)
        ids = [item.chunk_id for item in answer.retrieved if item.chunk_id in onlooker.bank]
        sure = [visit.engine.run(answer_logprob, onlooker, answer.asked, answer.token_ids, each) for each in (ids, [])]
        yield Ways(found, before, *sure)


@dataclass(frozen=True)
class Hay:
    """The text that a sentence is hidden in.

    Attributes:
        doc_id: the document; None takes the one read first. tokens: of it. start: where they begin, as a share of it.
    """

    doc_id: int | None = None
    tokens: int = 2048
    start: float = 0.0

    def of(self, session: Session) -> str:
        """Return the text itself.

        Raises:
            ConfigError: for a document that is not here, or sizes that are not allowed.
        """
        if not 256 <= self.tokens <= NEEDLE_TOKENS or not 0 <= self.start < 1:
            raise ConfigError(
                f"{self.tokens:,} tokens from {self.start:.0%} on",
                f"256 to {NEEDLE_TOKENS:,} tokens, from 0 to 99% on",
                "Choose others",
            )
        texts = {document.doc_id: document.text for document in documents(session)}
        if not texts or (self.doc_id is not None and self.doc_id not in texts):
            raise ConfigError("That document is not here", f"Documents {sorted(texts)}", "Choose another one")
        text = texts[next(iter(texts)) if self.doc_id is None else self.doc_id]
        length = min(len(text), round(self.tokens * _CHARACTERS_A_TOKEN))
        at = min(round(self.start * len(text)), len(text) - length)  # a late start still gives as much text
        at = text.find(" ", at) + 1 if at else 0
        return text[at : at + length]


def documents(session: Session) -> list[DocumentState]:
    """Return the documents that a sentence can be hidden in, in the order they were read."""
    return [document for document in list(session.documents.values()) if document.text and document.n_tokens]


def needle(visit: Visit, given: Needle, hay: Hay, depths: int, shares: Sequence[float]) -> Iterator[Step]:
    """Hide a sentence of the visitor's own in a text they read, at so many depths and shares of capacity.

    Every place is a reading of its own, in a session of its own: the visitor's memory is left alone.

    Raises:
        ConfigError: for a sentence that does not hold the answer, more places than allowed, a text that is not here,
            or when nothing was read.
    """
    from memlong.evaluation import needle as needles
    from memlong.evaluation.answers import contains_answer

    if not contains_answer(given.sentence, [given.expected]):
        raise ConfigError(
            f"The right answer {shorten(given.expected, 60)!r} is not in the sentence",
            "Words that the hidden sentence says",
            "Copy them from it, or hide another sentence",
        )
    if not 1 <= depths * len(shares) <= MOST_PLACES:
        raise ConfigError(
            f"{depths} depths and {len(shares)} capacities", f"1 to {MOST_PLACES} places", "Choose fewer, or one"
        )
    with experiment(visit) as session:
        text = hay.of(session)
        yield needles.Step(0.0, "Starting", ())
        chunk = session.config.chunk_tokens
        whole = len(text) / _CHARACTERS_A_TOKEN + 2 * chunk
        places = [
            (depth / max(1, depths - 1), max(chunk, round(share * whole / chunk) * chunk))
            for share in sorted(shares)
            for depth in range(depths)
        ]
        steps = needles.run(session.model, session.retriever, text, given, places, visit.stop_lab.is_set)
        yield from visit.engine.steps(steps, "reading")


def places_of(tries: Sequence[Try]) -> tuple[list[float], list[int]]:
    """Return the depths and capacities of tries, each once, in order."""
    return sorted({each.depth for each in tries}), sorted({each.capacity_tokens for each in tries})
