"""What other policies would have kept of a visitor's reading, and whether a chunk that left was missed. No torch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.lab import MOST_PLACES, experiment
from app.sessions import Visit
from app.text import one_line, plural
from memlong.bank.eviction import POLICIES
from memlong.errors import ConfigError
from memlong.trace.events import Deleted, Evicted

if TYPE_CHECKING:
    from memlong.evaluation.policies import Replayed
    from memlong.evaluation.recording import Recording
    from memlong.session.session import Session

SHOW_EVERY = 0.5  # seconds between two pictures of a replay that goes on
AT_ONCE = 64  # chunks whose searches are worked out before the answer to a click
ALIKE = 0.1  # of the capacity that memory has: another that near tells nothing more
SHARES = (0.125, 0.25, 0.5)  # of what was read: the capacities that policies are tried at


@dataclass(frozen=True)
class PolicyResult:
    """What replaying found so far.

    Attributes:
        share: done, 0 to 1. words: what is going on, or the conclusion. rows: finished replays.
        tokens: of all chunks read. questions: that people asked. used, capacity: the session's own policy and tokens.
    """

    share: float
    words: str
    rows: tuple[Replayed, ...] = ()
    tokens: int = 0
    questions: int = 0
    used: str = ""
    capacity: int = 0


def policies(visit: Visit, shares: Sequence[float] = SHARES) -> Iterator[PolicyResult]:
    """Replay what this session read and was asked under every policy, at shares of what was read.

    Where that was more than its memory holds, at the capacity that it has too.

    The language model is not run, and nothing that was read is embedded again.

    Raises:
        ConfigError: when nothing was read, or for shares that are not allowed.
    """
    from memlong.evaluation.policies import conclusion, replays

    if not shares or len(shares) > MOST_PLACES or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"Shares {list(shares)}", f"1 to {MOST_PLACES} numbers above 0, at most 1", "Choose others")
    with experiment(visit) as session:
        made, vectors = recording_of(session), visit.vectors
        assert vectors is not None
        asked = [text for _, text in made.questions]
        yield PolicyResult(0.0, "Embedding the questions")
        for left in visit.engine.steps(vectors.embed(asked), "question"):
            yield PolicyResult(0.1, f"Embedding {plural(left, 'more question')}")
            if visit.stop_lab.is_set():
                return
        chunks_nE = vectors.chunks([chunk.chunk_id for chunk in made.chunks])
        questions_QE = vectors.questions(made.questions)
        chunk, used = made.chunk_tokens, session.config.policy
        own = session.bank.capacity.tokens
        sizes = {max(chunk, round(share * made.tokens / chunk) * chunk) for share in shares}
        if own < made.tokens:  # what would have been, above all, in this very memory
            sizes = {own, *(size for size in sizes if abs(size - own) > ALIKE * own)}
        capacities = sorted(sizes)
        rows: list[Replayed] = []
        total = len(capacities) * len(POLICIES)
        words = "Working out what a bank without limits would have fetched"
        shown = 0.0
        second = vectors.second_look(made, visit.engine.run)
        for row in replays(made, chunks_nE, questions_QE, list(POLICIES), capacities, second):
            if visit.stop_lab.is_set():
                return
            if row is None and time.monotonic() - shown < SHOW_EVERY:
                continue
            shown = time.monotonic()
            if row is not None:
                rows.append(row)
                words = f"Replayed {row.policy} with {row.capacity_tokens:,} tokens"
            done = len(rows) == total
            words = conclusion(rows, used, own) if done else words
            share = 1.0 if done else 0.1 + 0.9 * len(rows) / total
            yield PolicyResult(share, words, tuple(rows), made.tokens, made.asked(), used, own)


def needed_later(visit: Visit | None, chunk_id: int, step: int | None = None, at_once: bool = False) -> str | None:
    """Return in a sentence whether a chunk that had left by a step (None: now) was wanted afterwards.

    "" for a chunk that is held at that step, or unknown. With ``at_once`` None where finding out takes long.
    """
    from memlong.evaluation.policies import wanted_later

    session, vectors = (visit.session, visit.vectors) if visit else (None, None)
    if visit is None or session is None or vectors is None:
        return ""
    events = session.recorder.filter(("Evicted", "Deleted", "Restored"), chunk_id=chunk_id)
    before = [event for event in events if step is None or event.step <= step]
    if not before or not isinstance(before[-1], Evicted | Deleted):
        return ""
    written = len([event for event in session.recorder.filter("ChunkWritten") if event.step < before[-1].step])
    made = recording_of(session)
    if at_once and vectors.missing(made) > AT_ONCE:
        return None
    for _ in visit.engine.steps(vectors.embed([text for _, text in made.questions]), "question"):
        pass
    second = vectors.second_look(made, visit.engine.run)
    chunks, questions = wanted_later(made, vectors.wanted(made, second), chunk_id, written)
    since, asked = len(made.chunks) - written, made.asked(written)
    return _later_words(chunks, questions, since, asked)


def _later_words(chunks: Sequence[int], questions: Sequence[str], since: int, asked: int) -> str:
    if not since and not asked:
        return "Nothing was read or asked since, so it was not missed."
    among = f"{plural(since, 'chunk')} read and {plural(asked, 'question')} asked since"
    if not chunks and not questions:
        return f"It was not needed later: of {among}, none would have fetched it."
    parts = [plural(len(chunks), "chunk")] if chunks else []
    parts += [plural(len(questions), "question")] if questions else []
    words = f"It would have been needed later: of {among}, {' and '.join(parts)} would have fetched it"
    latest = f": “{one_line(questions[-1], 80)}”" if questions else ""
    return words + (latest if len(questions) < 2 else f"{latest} and others") + "."


def recording_of(session: Session) -> Recording:
    """Return what was read into and asked of a memory. Raises ConfigError when nothing was read."""
    from memlong.evaluation.recording import record

    config = session.config
    return record(session.recorder.events, config.chunk_tokens, config.top_k, config.whole_sentences)
