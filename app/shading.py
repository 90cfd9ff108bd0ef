"""What a visitor does with one chunk of an answer: see which of its words the model looked at. No gradio, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app import looking
from app.rows.attention import Written, written
from app.sessions import Visit
from app.text import chunk_number
from memlong.errors import ConfigError


@dataclass(frozen=True)
class Shaded:
    """One chunk's words, and what they got so far.

    Attributes:
        pieces: the chunk's text, one piece a token [C]. mass: mean share of attention on each of them [C].
        done, total: tokens of the answer looked at, and how many will be.
    """

    pieces: tuple[str, ...]
    mass: np.ndarray
    done: int
    total: int


def shade(visit: Visit, answer_id: int | None, chunk_id: int | None, token: int | None) -> Iterator[Shaded]:
    """Write an answer once more and yield where inside a chunk it looked, one step a token, in turns.

    Ends early when ``visit.stop_answering`` is set; what was worked out so far is right for the tokens so far.

    Args:
        token: one token of the answer; None takes the mean over all of them.

    Raises:
        ConfigError: when there is nothing to work out, a chunk of the answer is not held any more, or an answer is
            being written.
    """
    if answer_id is None or chunk_id is None or visit.session is None:
        raise ConfigError("No answer and chunk chosen", "A chunk that an answer looked at", "Choose both above")
    said = written(looking.timeline(visit), answer_id)
    if said is None or said.answer_from != "memory":
        raise ConfigError(
            "An answer with passages in its prompt, or without memory",
            "Answers from memory alone are worked out word by word",
            "Ask again from memory",
        )
    if visit.answering:
        raise ConfigError(
            "An answer is being written", "One thing at a time", "Wait for it, or press Stop on the tab Ask"
        )
    yield from _shade(visit, said, chunk_id, token)


def _shade(visit: Visit, said: Written, chunk_id: int, token: int | None) -> Iterator[Shaded]:
    from memlong.session.shading import shade as steps_of  # brings torch: only now, when the model is there
    from memlong.session.shading import tokens_of

    session = visit.memory()
    last = len(said.token_ids) if token is None else token + 1
    looked_at = (*said.memories[:last], (chunk_id,))
    gone = [each for memory in looked_at for each in memory if each not in session.bank]
    if gone:  # the library would name it by its id
        raise ConfigError(
            f"Chunk {chunk_number(gone[0])}, which the answer looked at, has left memory",
            "Answers whose chunks are all in memory",
            "Bring it back on the tab Memory, or choose another answer",
        )
    visit.stop_answering.clear()
    pieces = tuple(visit.engine.run(tokens_of, session, chunk_id))
    sums = np.zeros(len(pieces))
    shown = steps_of(session, said.question, said.token_ids[:last], said.memories[:last], said.retrieved_at)
    steps = visit.engine.steps(shown, "question")
    try:
        for done, step in enumerate(steps, start=1):
            mass = step.mass.get(chunk_id, np.zeros(0))[: len(pieces)]
            if token is None or step.index == token:
                sums[: len(mass)] += mass
            yield Shaded(pieces, sums / (done if token is None else 1), done, last)
            if visit.stop_answering.is_set() or visit.closed:
                return
    finally:
        steps.close()
