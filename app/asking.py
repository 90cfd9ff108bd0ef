"""What a visitor does with questions: ask, stop, ask again, look at evidence, export. No gradio, no torch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from app.sessions import Exchange, Visit
from app.setup import MOST_CHUNKS
from app.text import chunk_number, plural
from memlong.config import AskOptions
from memlong.errors import ConfigError, MemLongError

if TYPE_CHECKING:
    from memlong.session.results import Evidence

SHOW_EVERY = 0.1  # seconds between two pictures of an answer that grows
# What one visitor may ask of a machine that all share. A long question is read in one turn, and the K-V of every
# chunk retrieved lie in memory at once, in every layer.
MOST_CHARACTERS, MOST_TOKENS = 4_000, 1_024


def ask(visit: Visit, question: str, options: AskOptions, show_every: float = SHOW_EVERY) -> Iterator[Exchange]:
    """Answer a question; yields the exchange while it grows, and once more when it is finished.

    Waits for the model when it is still loading. What goes wrong is noted in the exchange. Ends early when
    ``visit.stop_answering`` is set; the answer so far is kept.

    Raises:
        ConfigError: for a question that is empty or too long, more chunks or tokens than allowed, or while another
            answer is being written or the Lab is asking.
    """
    refuse(visit, question, options)
    with visit.lock:
        _refuse_two(visit)
        visit.answering, visit.refused = True, None
        visit.stop_answering.clear()
    exchange = Exchange(question.strip(), options=options)
    visit.exchanges.append(exchange)
    visit.shown = None
    try:
        yield exchange
        while not visit.engine.wait(0.5) and not visit.stop_answering.is_set():
            if visit.engine.state.error:
                raise visit.engine.state.error
            yield exchange
        yield from _answer(visit, exchange, options, show_every)
    except MemLongError as error:
        exchange.error = error
    except GeneratorExit:
        exchange.cut = exchange.answer is None
        raise
    finally:
        visit.answering = False
    yield exchange


def _refuse_two(visit: Visit) -> None:
    if visit.answering:
        raise ConfigError(
            "An answer is being written", "One question at a time", "Wait for it, or press Stop on the tab Ask"
        )
    if visit.comparing:
        raise ConfigError("The Lab is asking", "One question at a time", "Wait for it, or press Stop on the tab Lab")


def refuse(visit: Visit, question: str, options: AskOptions) -> None:
    """Raise ConfigError for a question that is no text, empty or too long, or for too many chunks or tokens."""
    own = getattr(visit.engine.model, "config", None)  # None while it is being loaded
    if question is not None and not isinstance(question, str):
        raise ConfigError(f"A question of type {type(question).__name__}", "A question in words", "Send it as text")
    if not question or not question.strip():
        raise ConfigError("An empty question", "A question in words", "Type one")
    for given, what, most, do in (
        (len(question), "character", MOST_CHARACTERS, "Ask in fewer words; long texts belong on the tab Read"),
        (options.top_k or (own.top_k if own else 1), "chunk", MOST_CHUNKS, "Retrieve fewer chunks"),
        (options.max_tokens, "token", MOST_TOKENS, "Ask for a shorter answer"),
    ):
        if given > most:
            whose = {"character": "A question of ", "chunk": "Retrieving ", "token": "An answer of "}[what]
            raise ConfigError(whose + plural(given, what), f"At most {plural(most, what)}", do)


def _answer(visit: Visit, exchange: Exchange, options: AskOptions, show_every: float) -> Iterator[Exchange]:
    from memlong.session.results import Answer  # brings torch: only now, when the model is there

    session = visit.memory()
    if options.answer_from != "nothing" and not len(session.bank):
        raise ConfigError(
            "Nothing has been read yet",
            "Answers come from what is in memory",
            "Open the tab Read and take a sample, or set 'Answer from' to nothing",
        )
    # A document removed since its box was ticked is no reason to refuse the question.
    options = with_known_documents(options, session.present)
    session.turns = visit.turns(len(visit.exchanges) - 1)  # what was taken back or cleared is none any more
    steps = visit.engine.steps(session.stream(exchange.question, options, visit.stop_answering.is_set), "question")
    shown, n_evidence = 0.0, -1
    try:
        for step in steps:
            exchange.text = step.text
            if isinstance(step, Answer):
                exchange.answer = step
                continue
            exchange.found, exchange.steps = step.evidence, step.steps
            if time.monotonic() - shown >= show_every or len(step.evidence) != n_evidence:
                shown, n_evidence = time.monotonic(), len(step.evidence)
                yield exchange
    finally:
        steps.close()


def with_known_documents(options: AskOptions, documents: Mapping[int, object]) -> AskOptions:
    """Return options that ask no document which was removed since; all are asked when none is left."""
    if options.documents is None:
        return options
    known = tuple(doc_id for doc_id in options.documents if doc_id in documents)
    return options.replace(documents=known or None)


def stop(visit: Visit) -> None:
    """Stop answering after the token at hand; what is written stays."""
    visit.stop_answering.set()


def take_back(visit: Visit, index: int) -> str:
    """Remove an exchange and all later ones from the conversation, and return its question.

    Raises:
        ConfigError: while an answer is being written or the Lab is asking, or when there is no such exchange.
    """
    _refuse_two(visit)
    if not 0 <= index < len(visit.exchanges):
        raise ConfigError(f"Question {index + 1}", f"1 to {len(visit.exchanges)}", "Ask it anew")
    question = visit.exchanges[index].question
    del visit.exchanges[index:]
    visit.shown = None
    return question


def clear(visit: Visit) -> None:
    """Forget the conversation, not memory. Raises ConfigError while an answer is being written or the Lab asks."""
    _refuse_two(visit)
    visit.exchanges.clear()
    visit.shown, visit.refused = None, None


def like(visit: Visit, index: int, liked: bool | None) -> None:
    """Keep a visitor's thumb for an answer; it is part of the export."""
    if 0 <= index < len(visit.exchanges):
        visit.exchanges[index].liked = liked


def chosen(visit: Visit) -> tuple[int, Exchange] | None:
    """Return the exchange whose evidence is shown, and its index; None before the first question."""
    if not visit.exchanges:
        return None
    last = len(visit.exchanges) - 1
    index = last if visit.shown is None else min(visit.shown, last)
    return index, visit.exchanges[index]


def find_evidence(visit: Visit, index: int, chunk_id: int, step: int = 0) -> Evidence:
    """Return a chunk of an answer's evidence, or of that of one of its steps, which count from 1.

    Raises:
        ConfigError: when it is not among it.
    """
    if 0 <= index < len(visit.exchanges):
        exchange = visit.exchanges[index]
        steps = exchange.answer.steps if exchange.answer else ()
        for item in steps[step - 1].retrieved if 0 < step <= len(steps) else exchange.evidence:
            if item.chunk_id == chunk_id:
                return item
    given = f"Chunk {chunk_number(chunk_id)} of answer {index + 1}"
    raise ConfigError(given, "Chunks of this conversation", "Choose one of the list")


def said_with(exchange: Exchange, item: Evidence) -> tuple[int, str]:
    """Return which step fetched a chunk of an exchange's evidence, and what it found; 0 and the answer for none."""
    parts = (exchange.answer, *exchange.answer.steps) if exchange.answer else ()
    found = ((step, part.text) for step, part in enumerate(parts) if item in part.retrieved)
    return next(found, (0, exchange.text))


def document_text(visit: Visit, doc_id: int) -> str:
    """Return the text of a document, also of one that was read anew since; "" when it was removed."""
    item = visit.shelf.of_doc(doc_id)
    if item is not None and item.document is not None:
        return item.document.text
    document = visit.session.documents.get(doc_id) if visit.session else None
    return document.text if document else ""
