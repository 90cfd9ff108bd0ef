"""Where an answer looked: attention mass by token, layer, head and chunk, as arrays.

Shapes: T generated tokens, L retrieval layers, H query heads, N chunks that were in memory for any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from app.rows.timeline import Timeline
from memlong.trace.events import Event, LayerMass, QuestionAsked, Retrieved, TokenGenerated

MEAN, MOST = "mean", "max"
"""Besides a head's number: the mean over heads, and for every cell the head that looks most."""


class AnswerRow(NamedTuple):
    """An answer that can be looked into: its question, a step's in the step's words, and whether it was recorded."""

    answer_id: int
    question: str
    recorded: bool


@dataclass(frozen=True)
class Looked:
    """Attention of one answer.

    Attributes:
        tokens: the text of each token [T]. layers: retrieval layers [L]. chunk_ids: in document order [N].
        mean_TLN: mean over heads, 0 for a chunk that was not in memory. local_TL: on the local context.
        heads_TLH: each head's mass on all memory; None when it was not recorded.
        heads_TLHN: the same by chunk; None when it was not recorded.
        scores: best retrieval score of each chunk [N], NaN when it was not searched for this answer.
    """

    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    chunk_ids: tuple[int, ...]
    mean_TLN: np.ndarray
    local_TL: np.ndarray
    heads_TLH: np.ndarray | None
    heads_TLHN: np.ndarray | None
    scores: np.ndarray

    @property
    def n_heads(self) -> int:
        """Heads that can be chosen one by one; 0 when they were not recorded."""
        return 0 if self.heads_TLHN is None else self.heads_TLHN.shape[2]

    def by_chunk(self, token: int | None, head: str | int = MEAN) -> np.ndarray:
        """Return mass [L, N] of one token, or the mean over all of them for None."""
        mass_TLN = self.mean_TLN if head == MEAN or self.heads_TLHN is None else _of_head(self.heads_TLHN, head)
        return mass_TLN.mean(axis=0) if token is None else mass_TLN[token]

    def memory_share(self, head: str | int = MEAN) -> np.ndarray:
        """Return the mass on all memory [T, L], between 0 and 1."""
        if head == MEAN or self.heads_TLH is None:
            return np.clip(1 - self.local_TL, 0, 1)
        return np.clip(_of_head(self.heads_TLH, head), 0, 1)


def _of_head(mass: np.ndarray, head: str | int) -> np.ndarray:
    """Choose a head, the mean or the largest along the third axis."""
    return mass.max(axis=2) if head == MOST else mass.mean(axis=2) if head == MEAN else mass[:, :, int(head)]


def answers(timeline: Timeline) -> list[AnswerRow]:
    """Return all answers, newest first."""
    recorded = {event.answer_id for event in timeline.events if isinstance(event, LayerMass)}
    ids = [event.answer_id for event in timeline.events if isinstance(event, QuestionAsked)]
    words = {each: timeline.questions[each] if timeline.step_of(each) else timeline.asked[each].words for each in ids}
    return [AnswerRow(each, words[each], each in recorded) for each in reversed(ids)]


def heads_recorded(timeline: Timeline) -> int:
    """Return how many heads the newest recorded answer tells apart; 0 when none does."""
    told = (event for event in reversed(timeline.events) if isinstance(event, LayerMass) and event.head_chunk_mass)
    return next((len(event.head_chunk_mass or ()) for event in told), 0)


def layers_recorded(timeline: Timeline) -> tuple[int, ...]:
    """Return the layers that the newest recorded answer tells apart; () when none does."""
    told = [event for event in timeline.events if isinstance(event, LayerMass)]
    return tuple(sorted({event.layer for event in told if event.answer_id == told[-1].answer_id}))


class Written(NamedTuple):
    """An answer as it was written: its question, its tokens, and the chunks in memory for each of them.

    ``retrieved_at``: tokens before which memory was searched anew.
    """

    question: str
    answer_from: str
    token_ids: tuple[int, ...]
    memories: tuple[tuple[int, ...], ...]
    retrieved_at: tuple[int, ...]


def written(timeline: Timeline, answer_id: int) -> Written | None:
    """Return how an answer was written; None when its attention was not recorded."""
    events = _of_answer(timeline, answer_id)
    tokens = [event for event in events if isinstance(event, TokenGenerated)]
    asked = next((event for event in events if isinstance(event, QuestionAsked)), None)
    if asked is None or not tokens or not any(token.chunk_mass for token in tokens):
        return None
    memories = tuple(tuple(chunk_id for chunk_id, _ in token.chunk_mass or ()) for token in tokens)
    found = [event.step for event in events if isinstance(event, Retrieved)]
    retrieved_at = tuple(sum(token.step < step for token in tokens) for step in found)
    ids = tuple(token.token_id for token in tokens)
    return Written(asked.question, asked.answer_from, ids, memories, retrieved_at)


def looked(timeline: Timeline, answer_id: int) -> Looked | None:
    """Return the attention of an answer; None when nothing was recorded of it."""
    events = _of_answer(timeline, answer_id)
    masses = [event for event in events if isinstance(event, LayerMass)]
    if not masses:
        return None
    texts = {event.index: event.text for event in events if isinstance(event, TokenGenerated)}
    indices = sorted({event.index for event in masses})
    layers = sorted({event.layer for event in masses})
    found = {chunk_id for event in masses for chunk_id, _ in event.chunk_mass}
    chunk_ids = sorted(found, key=lambda chunk_id: timeline.documents_of.get(chunk_id, (0, chunk_id)))
    row, column, at = _places(indices), _places(layers), _places(chunk_ids)
    T, L, N = len(indices), len(layers), len(chunk_ids)
    H = max((len(event.head_mass or ()) for event in masses), default=0)
    mean_TLN, local_TL = np.zeros((T, L, N)), np.ones((T, L))
    heads_TLH, heads_TLHN = np.zeros((T, L, H)), np.zeros((T, L, H, N))
    for event in masses:
        t, layer, here = row[event.index], column[event.layer], [at[chunk_id] for chunk_id, _ in event.chunk_mass]
        mean_TLN[t, layer, here] = [mass for _, mass in event.chunk_mass]
        local_TL[t, layer] = event.local_mass
        if event.head_mass:
            heads_TLH[t, layer] = event.head_mass
        if event.head_chunk_mass:
            heads_TLHN[t, layer][:, here] = event.head_chunk_mass
    return Looked(
        tuple(texts.get(index, "") for index in indices), tuple(layers), tuple(chunk_ids), mean_TLN, local_TL,
        heads_TLH if H else None, heads_TLHN if H and masses[0].head_chunk_mass else None,
        _scores(events, chunk_ids),
    )  # fmt: skip


def _of_answer(timeline: Timeline, answer_id: int) -> list[Event]:
    """Return the events of one answer: its own, and the searches made for it."""
    return [
        event
        for event in timeline.events
        if getattr(event, "answer_id", None) == answer_id
        or (isinstance(event, Retrieved) and event.query != "chunk" and event.query_id == answer_id)
    ]


def _scores(events: Sequence[Event], chunk_ids: Sequence[int]) -> np.ndarray:
    best: dict[int, float] = {}
    for event in events:
        for hit in event.hits if isinstance(event, Retrieved) else ():
            best[hit.chunk_id] = max(hit.score, best.get(hit.chunk_id, -np.inf))
    return np.array([best.get(chunk_id, np.nan) for chunk_id in chunk_ids])


def _places(values: Sequence[int]) -> dict[int, int]:
    return {value: place for place, value in enumerate(values)}
