"""What if memory had held other chunks: an answer weighed, and its question asked again. No gradio, no torch.

All of it happens aside (:mod:`memlong.evaluation.aside`); only :func:`keep` changes the visitor's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from app import asking, looking
from app.lab import experiment
from app.rows.chunks import ChunkRow, Documents, chunk_rows, text_of, title_of
from app.sessions import Exchange, Visit
from app.text import chunk_number, one_line
from memlong.config import AskOptions
from memlong.errors import ConfigError

if TYPE_CHECKING:
    from memlong.evaluation.counterfactual import Counterfactual
    from memlong.session.results import Answer, Evidence
    from memlong.session.session import Session

OFFERED = 25  # chunks of a menu, the nearest to the question; any other can be given by its number
MOST_CHUNKS = 8  # put in at a time


@dataclass(frozen=True)
class Choice:
    """A chunk in a menu. ``words`` is plain text of a stranger: its number, where it stands, how it begins."""

    chunk_id: int
    words: str


@dataclass(frozen=True)
class Changed:
    """A question asked again with other chunks.

    Attributes:
        text: the answer so far. steps: what was asked before it, and found so far. answer: the finished one.
        before, after: log-probability of the earlier answer with
            its own chunks and with these; None until known. recorded: what it was while it was written, when memory
            may have changed between two tokens. gone: how many of its chunks have left memory since.
        reworded: the question as memory was asked it now, where its steps found something else than before; else "".
    """

    text: str
    answer: Answer | None = None
    before: float | None = None
    after: float | None = None
    recorded: float | None = None
    gone: int = 0
    reworded: str = ""
    steps: tuple[tuple[str, str], ...] = ()


def exchange_of(visit: Visit, number: int | None) -> Exchange:
    """Return a question of the conversation that was answered from memory.

    Raises:
        ConfigError: when there is no such answer.
    """
    exchange = visit.exchanges[number] if number is not None and 0 <= number < len(visit.exchanges) else None
    answer = exchange.answer if exchange else None
    if exchange is None or answer is None or not answer.retrieved or answer.answer_from not in ("memory", "both"):
        raise ConfigError("No answer from memory", "An answer of the tab Ask", "Ask a question there, then choose it")
    return exchange


def choices(visit: Visit, number: int | None) -> tuple[list[Choice], list[Choice], list[Choice]]:
    """Return the chunks of an answer, the held ones next in line for it, and the gone ones nearest to it.

    Three empty lists when there is no such answer.
    """
    try:
        exchange = exchange_of(visit, number)
    except ConfigError:
        return [], [], []
    documents, vectors, timeline = looking.documents(visit), visit.vectors, looking.timeline(visit)
    own = {item.chunk_id for item in exchange.answer.retrieved} if exchange.answer else set()
    mine = [Choice(item.chunk_id, _evidence_words(item, item.chunk_id not in own)) for item in exchange.evidence]
    used = {choice.chunk_id for choice in mine}
    rows = [row for row in chunk_rows(timeline) if row.chunk_id not in used]
    rows = [row for row in rows if text_of(row, documents)]
    if not rows or vectors is None:
        return mine, [], []
    for _ in visit.engine.steps(vectors.embed([exchange.asked]), "question"):
        pass
    asked_now = (timeline.written, exchange.asked)
    scores = vectors.chunks([row.chunk_id for row in rows]) @ vectors.questions([asked_now])[0]
    ordered = [(rows[at], float(scores[at])) for at in np.argsort(-scores, kind="stable")]
    held = [pair for pair in ordered if pair[0].state in ("held", "pinned")]
    gone = [pair for pair in ordered if pair[0].state in ("evicted", "deleted")]
    session = visit.session
    # What an answer was given has scores of a second look, which differ: one word must not name both.
    scored = "first look" if session is not None and session.config.rerank_candidates else "score"
    second, third = (
        [Choice(row.chunk_id, _row_words(row, f"{scored} {score:.2f}", documents)) for row, score in some[:OFFERED]]
        for some in (held, gone)
    )
    return mine, second, third


def _evidence_words(item: Evidence, of_step: bool) -> str:
    place = one_line(item.place or item.title, 40)
    whose = "for what was asked first · " if of_step else ""
    return f"{chunk_number(item.chunk_id)} · {whose}{place} · score {item.score:.2f} · {one_line(item.text, 70)}"


def _row_words(row: ChunkRow, scored: str, documents: Documents) -> str:
    place = one_line(documents[row.doc_id].place(row.span) or title_of(row.doc_id, documents), 40)
    return f"{chunk_number(row.chunk_id)} · {place} · {scored} · {one_line(text_of(row, documents), 70)}"


def numbers(given: Sequence[object]) -> list[int]:
    """Return the ids of chunks whose numbers were chosen or typed, each once.

    Raises:
        ConfigError: for what is no number, or more than :data:`MOST_CHUNKS`.
    """
    found = []
    for each in given:
        words = str(each).strip().split(" ")[0]
        if not words:  # Enter in an empty box
            continue
        if not words.isdecimal() or len(words) > 12 or not int(words):
            raise ConfigError(
                f"{one_line(str(each), 40)!r}", "Numbers of chunks, from 1", "Choose from the menu, or type one"
            )
        found.append(int(words) - 1)
    found = list(dict.fromkeys(found))
    if len(found) > MOST_CHUNKS:
        raise ConfigError(f"{len(found)} chunks", f"At most {MOST_CHUNKS} at a time", "Choose fewer")
    return found


Owed = tuple[tuple["Counterfactual", ...], ...]
"""What an answer owes to its chunks, then what that of each of its steps owes to its own."""


def owed(visit: Visit, number: int | None) -> Iterator[Owed]:
    """Yield what an answer of the conversation owes to each of its chunks, one memory more at a time.

    Its steps come after it: without what they found it would not have been asked as it was.

    Raises:
        ConfigError: when there is no such answer, or it did not come from memory.
    """
    from memlong.evaluation.aside import aside
    from memlong.evaluation.counterfactual import leave_one_out

    exchange = exchange_of(visit, number)
    answer = exchange.answer
    assert answer is not None and number is not None
    with experiment(visit, asks=True) as session:
        yield ()
        weighed: list[tuple[Counterfactual, ...]] = []
        onlooker = visit.engine.run(aside, session)
        of_steps = (exchange.options or AskOptions()).replace(history=0, forced=())  # as steps are asked
        for part in (answer, *answer.steps):
            ids = [item.chunk_id for item in part.retrieved]
            options = exchange.options if part is answer else of_steps
            rows = leave_one_out(onlooker, part.asked, part.token_ids, ids, options=options, turns=visit.turns(number))
            weighed.append(())
            for row in visit.engine.steps(rows, "question"):
                weighed[-1] = (*weighed[-1], row)
                yield tuple(weighed)
                if visit.stop_lab.is_set():
                    return


def ask_again(visit: Visit, number: int | None, without: Sequence[int], instead: Sequence[int]) -> Iterator[Changed]:
    """Ask a question of the conversation again as it was asked, without some chunks and with others.

    Args:
        instead: held chunks, or such as left: these are read again, for this answer alone.

    Raises:
        ConfigError: when there is no such answer, or for chunks that never were here.
    """
    from memlong.evaluation.aside import aside
    from memlong.evaluation.counterfactual import answer_logprob
    from memlong.session.results import Answer

    exchange = exchange_of(visit, number)
    earlier = exchange.answer
    assert earlier is not None and number is not None
    with experiment(visit, asks=True) as session:
        yield Changed("")
        onlooker = visit.engine.run(aside, session)
        onlooker.turns = visit.turns(number)
        for chunk_id in instead:
            if chunk_id not in session.bank:
                looking.refuse_bringing(visit, session, chunk_id)
            visit.engine.run(_bring, onlooker, chunk_id)
        options = asking.with_known_documents(exchange.options or AskOptions(), session.present)
        options = replace(options, masked=tuple(without), forced=tuple(instead))
        last = Changed("")
        for step in visit.engine.steps(onlooker.stream(exchange.question, options, visit.stop_lab.is_set), "question"):
            last = Changed(step.text, step) if isinstance(step, Answer) else Changed(step.text, steps=step.steps)
            yield last
        if last.answer is None or visit.stop_lab.is_set():
            return
        own = [item.chunk_id for item in earlier.retrieved if item.chunk_id in onlooker.bank]
        now = [item.chunk_id for item in last.answer.retrieved]
        turns = visit.turns(number)
        asked = exchange.options or AskOptions()

        def weigh(question: str, chunk_ids: list[int], wanted: Sequence[int]) -> float:
            """Return the log-probability of the earlier answer to a question, with these chunks."""
            as_asked = replace(asked, forced=tuple(wanted))
            return answer_logprob(onlooker, question, earlier.token_ids, chunk_ids, options=as_asked, turns=turns)

        # Other chunks may have its steps find other names: what it is asked then belongs to the change.
        asked_now = last.answer.asked
        before = visit.engine.run(weigh, earlier.asked, own, asked.forced)
        after = visit.engine.run(weigh, asked_now, now, instead)
        reworded = asked_now if asked_now != earlier.asked else ""
        gone = len(earlier.retrieved) - len(own)
        yield replace(last, before=before, after=after, recorded=earlier.logprob, gone=gone, reworded=reworded)


def _bring(session: Session, chunk_id: int) -> None:
    if chunk_id not in session.bank:
        session.restore(chunk_id, pin=False)


def keep(visit: Visit, chunk_ids: Sequence[int]) -> str:
    """Pin chunks in the visitor's own memory, after bringing back those that left; returns what came of it.

    Raises:
        ConfigError: when none is given. BankError: for chunks that never were here, or when too much is pinned.
    """
    session = visit.session
    if session is None or not chunk_ids:
        raise ConfigError("No chunk is chosen", "Chunks of 'Put in' or 'Bring back'", "Choose one there first")
    said = []
    for chunk_id in chunk_ids:
        said.append(looking.act(visit, "pin" if chunk_id in session.bank else "restore", chunk_id))
    return " ".join(said)
