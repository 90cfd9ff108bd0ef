"""Which chunks that had left a question would have fetched from a bank without limits. No gradio, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app import looking
from app.replaying import recording_of
from app.sessions import Missed, Visit
from memlong.errors import ConfigError
from memlong.trace.events import ChunkWritten, QuestionAsked

if TYPE_CHECKING:
    from app.vectors import Vectors
    from memlong.evaluation.recording import Recording


@dataclass(frozen=True)
class _Asked:
    """A question as the trace has it: its place among those that searched, and the event."""

    place: int
    event: QuestionAsked


def may_have_missed(visit: Visit, index: int) -> bool:
    """Whether an answer searched a memory that some chunks had left, so that :func:`missed` can say more."""
    answer = visit.exchanges[index].answer if 0 <= index < len(visit.exchanges) else None
    if answer is None or visit.vectors is None or answer.answer_from == "nothing":
        return False
    return answer.chunks_kept < answer.chunks_read


def missed(visit: Visit, index: int) -> tuple[Missed, ...]:
    """Return the chunks that had left when a question was asked and would have been fetched for it, best first.

    They are searched as the question searched: the same documents, the same number, looked at twice where it was; so
    are those of its steps, without which it may have gone wrong. Chunks whose document was removed since cannot be read
    any more, and are left out.

    Raises:
        ConfigError: for an answer that did not search, that no chunk was missing for, or whose documents were removed.
    """
    session, vectors = visit.session, visit.vectors
    asked = _asked(visit, index)
    if not asked or session is None or vectors is None or not may_have_missed(visit, index):
        raise ConfigError(
            "No chunk had left memory when this was asked", "Answers to what was asked later", "Choose another answer"
        )
    made = recording_of(session)
    for _ in visit.engine.steps(vectors.embed([text for _, text in made.questions]), "question"):
        pass
    fetched = {item.chunk_id for item in visit.exchanges[index].evidence}
    found: dict[int, Missed] = {}
    for each in asked:
        chunks, scores = _best(visit, made, vectors, each)
        held = looking.timeline(visit).state(each.event.step).chunks
        likely = visit.engine.run(vectors.likely, made.questions[each.place], chunks, scores.tolist())
        for rank, (chunk, score) in enumerate(zip(chunks, scores, strict=True), 1):
            known = found.get(chunk.chunk_id)
            if chunk.chunk_id not in held and chunk.chunk_id not in fetched and (known is None or rank < known.rank):
                place = session.documents[chunk.doc_id].place(chunk.span)
                other = each.event.question if each.event.question != visit.exchanges[index].question else ""
                found[chunk.chunk_id] = Missed(chunk.chunk_id, place, float(score), rank, likely[rank - 1], other)
    return tuple(sorted(found.values(), key=lambda one: one.rank))


def _asked(visit: Visit, index: int) -> list[_Asked]:
    answer = visit.exchanges[index].answer if 0 <= index < len(visit.exchanges) else None
    if visit.session is None or answer is None:
        return []
    ids = {part.answer_id for part in (answer, *answer.steps)}
    events = visit.session.recorder.filter("QuestionAsked")
    searched = [event for event in events if isinstance(event, QuestionAsked) and event.answer_from != "nothing"]
    return [_Asked(at, event) for at, event in enumerate(searched) if event.answer_id in ids]


def _best(visit: Visit, made: Recording, vectors: Vectors, asked: _Asked) -> tuple[list[ChunkWritten], np.ndarray]:
    """Return what the question would have fetched had nothing left, with its scores, best first."""
    event, session = asked.event, visit.memory()
    written = made.questions[asked.place][0]
    here = set(session.present)
    wanted = here if event.documents is None else here & set(event.documents)
    places = np.array([at for at, chunk in enumerate(made.chunks[:written]) if chunk.doc_id in wanted], dtype=np.int64)
    if not len(places):
        raise ConfigError(
            "What was asked about was removed", "Documents that are here", "Read them again, and ask again"
        )
    (query_E,) = vectors.questions([made.questions[asked.place]])
    scores = vectors.chunks([made.chunks[at].chunk_id for at in places]) @ query_E
    second = vectors.second_look(made, visit.engine.run)
    first = np.argsort(-scores, kind="stable")[: max(event.top_k, second.candidates if second else 0)]
    places, scores = places[first], scores[first]
    if second is not None:
        scores = second.scores(asked.place, places, scores)
    order = np.argsort(-scores, kind="stable")[: event.top_k]
    return [made.chunks[at] for at in places[order]], scores[order]
