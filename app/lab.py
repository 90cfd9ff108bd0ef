"""Experiments of a visitor: four ways to answer, policies replayed, a hidden sentence, other memories. No gradio.

Each is a generator whose steps take turns at the model like reading and asking do, and which ends early when
``visit.stop_lab`` is set; what was found until then is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app import asking
from app.sessions import Visit
from memlong.bank.eviction import POLICIES
from memlong.config import ANSWER_FROM, AskOptions
from memlong.errors import ConfigError

if TYPE_CHECKING:
    from memlong.evaluation.counterfactual import Counterfactual
    from memlong.evaluation.needle import Step, Try
    from memlong.evaluation.policies import Replayed
    from memlong.session.results import Answer
    from memlong.session.session import Session

SHARES = (0.125, 0.25, 0.5)  # of what was read: the capacities that policies are tried at
EMBED_AT_ONCE = 16  # texts in one turn, so that another visitor's question waits half a second at most
NEEDLE_TOKENS = 16_384  # of the text that a sentence may be hidden in: it is read anew for every place
MOST_PLACES = 16
_CHARACTERS_A_TOKEN = 3.9


@dataclass(frozen=True)
class PolicyResult:
    """What replaying found so far.

    Attributes:
        share: done, 0 to 1. words: what is going on, or the conclusion. rows: finished replays.
        tokens: of all chunks read. used: the session's own policy.
    """

    share: float
    words: str
    rows: tuple[Replayed, ...] = ()
    tokens: int = 0
    used: str = ""


@contextmanager
def _experiment(visit: Visit) -> Iterator[Session]:
    """Hold the visitor's one place for experiments.

    Raises:
        ConfigError: before anything was read, or while another experiment runs.
    """
    session = visit.session
    if session is None or not session.chunks_read:
        raise ConfigError("Nothing has been read yet", "A document in memory", "Open the tab Read and take a sample")
    with visit.lock:
        if visit.experimenting:
            raise ConfigError("An experiment is running", "One at a time", "Wait for it, or press Stop")
        visit.experimenting = True
        visit.stop_lab.clear()
    try:
        yield session
    finally:
        visit.experimenting = False


def stop(visit: Visit) -> None:
    """End the running experiment at its next step."""
    visit.stop_lab.set()


def four_ways(visit: Visit, question: str, options: AskOptions) -> Iterator[dict[str, Answer | str]]:
    """Answer one question in every way with the same retriever and seed; yields way -> answer, or its text so far.

    Each way is a question like any other: what it finds is triggered. The conversation does not hear of it.

    Raises:
        ConfigError: see :func:`app.asking.refuse`, and when nothing was read.
    """
    from memlong.session.results import Answer

    asking.refuse(question, options)
    found: dict[str, Answer | str] = {}
    with _experiment(visit) as session:
        for way in ANSWER_FROM:
            found[way] = ""
            told = len(session.turns)
            steps = session.stream(question, _with(options, answer_from=way), visit.stop_lab.is_set)
            for step in visit.engine.steps(steps, "question"):
                found[way] = step if isinstance(step, Answer) else step.text
                yield dict(found)
            del session.turns[told:]
            if visit.stop_lab.is_set():
                return


def policies(visit: Visit, shares: Sequence[float] = SHARES) -> Iterator[PolicyResult]:
    """Replay what this session read and was asked under every policy, at shares of what was read.

    The language model is not run; chunks that left are embedded again, once.

    Raises:
        ConfigError: when nothing was read, or for shares that are not allowed.
    """
    from memlong.evaluation.policies import conclusion, record, replay

    if not shares or len(shares) > MOST_PLACES or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"Shares {list(shares)}", f"1 to {MOST_PLACES} numbers above 0, at most 1", "Choose others")
    with _experiment(visit) as session:
        made = record(list(session.recorder.events), session.config.chunk_tokens, session.config.top_k)
        texts = [session.documents[chunk.doc_id].text[slice(*chunk.span)] for chunk in made.chunks]
        texts += [question for _, question in made.questions]
        vectors = []
        for start in range(0, len(texts), EMBED_AT_ONCE):
            part = texts[start : start + EMBED_AT_ONCE]
            vectors.append(visit.engine.run(session.retriever.embed_documents, part, kind="reading"))
            yield PolicyResult(0.9 * (start + len(part)) / len(texts), f"Embedding {len(texts)} chunks and questions")
            if visit.stop_lab.is_set():
                return
        import numpy as np

        every = np.concatenate(vectors)
        n, chunk = len(made.chunks), made.chunk_tokens
        capacities = sorted({max(chunk, round(share * made.tokens / chunk) * chunk) for share in shares})
        rows: list[Replayed] = []
        for number, capacity in enumerate(capacities, start=1):
            rows += replay(made, every[:n], every[n:], list(POLICIES), [capacity])
            words = conclusion(rows, session.config.policy) if number == len(capacities) else "Replaying"
            share = 0.9 + 0.1 * number / len(capacities)
            yield PolicyResult(share, words, tuple(rows), made.tokens, session.config.policy)


def needle(visit: Visit, given: Any, tokens: int, depths: int, shares: Sequence[float]) -> Iterator[Step]:
    """Hide a sentence of the visitor's own in the text read first, at so many depths and shares of capacity.

    Every place is a reading of its own, in a session of its own: the visitor's memory is left alone.

    Args:
        given: a :class:`memlong.evaluation.needle.Needle`. tokens: of the text to use, from its beginning.

    Raises:
        ConfigError: for more places than allowed, or when nothing was read.
    """
    from memlong.evaluation import needle as needles

    if not 1 <= depths * len(shares) <= MOST_PLACES or not 256 <= tokens <= NEEDLE_TOKENS:
        raise ConfigError(
            f"{depths} depths and {len(shares)} capacities in {tokens:,} tokens",
            f"1 to {MOST_PLACES} places in 256 to {NEEDLE_TOKENS:,} tokens",
            "Choose fewer",
        )
    with _experiment(visit) as session:
        document = next(each for each in session.documents.values() if each.text)
        text = document.text[: round(tokens * _CHARACTERS_A_TOKEN)]
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


def owed(visit: Visit, number: int) -> Iterator[tuple[Counterfactual, ...]]:
    """Yield what an answer of the conversation owes to each of its chunks, one memory more at a time.

    Raises:
        ConfigError: when there is no such answer, or it did not come from memory.
    """
    from memlong.evaluation.counterfactual import leave_one_out

    exchange = visit.exchanges[number] if 0 <= number < len(visit.exchanges) else None
    answer = exchange.answer if exchange else None
    if answer is None or not answer.retrieved or answer.answer_from != "memory":
        raise ConfigError("No answer from memory", "An answer of the tab Ask", "Ask a question there, then choose it")
    with _experiment(visit) as session:
        found: list[Counterfactual] = []
        ids = [item.chunk_id for item in answer.retrieved]
        for row in visit.engine.steps(leave_one_out(session, answer.question, answer.text, ids), "question"):
            found.append(row)
            yield tuple(found)
            if visit.stop_lab.is_set():
                return


def changed(visit: Visit, number: int, without: Sequence[int], instead: Sequence[int]) -> Iterator[Answer | str]:
    """Ask a question of the conversation again with the same seed, without some chunks and with others.

    Raises:
        ConfigError: when there is no such answer. BankError: for chunks that are not held.
    """
    from memlong.session.results import Answer

    exchange = visit.exchanges[number] if 0 <= number < len(visit.exchanges) else None
    if exchange is None or exchange.answer is None:
        raise ConfigError("No finished answer", "An answer of the tab Ask", "Ask a question there, then choose it")
    options = AskOptions(masked=tuple(without), forced=tuple(instead), retrieve_every=0, record_attention=False)
    with _experiment(visit) as session:
        for chunk_id in instead:
            session.bank.get(chunk_id)  # refuses one that is not held, in words for people
        told = len(session.turns)
        steps = session.stream(exchange.question, options, visit.stop_lab.is_set)
        for step in visit.engine.steps(steps, "question"):
            yield step if isinstance(step, Answer) else step.text
        del session.turns[told:]


def _with(options: AskOptions, **changes: Any) -> AskOptions:
    return AskOptions(**(vars(options) | changes))
