"""Chunks for a query: which of those found are fetched, and how much each of their tokens has to do with it.

Shapes: N chunks, C chunk tokens, E embedding size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from memlong.attention.context import MassObserver, MemoryContext
from memlong.bank.results import Hit
from memlong.retriever.base import Parts
from memlong.retriever.parts import cut_parts, relevance_to, second_look
from memlong.session.results import Pointed

if TYPE_CHECKING:
    from memlong.session.session import Session


_KEPT = 64  # chunks whose parts are kept


@dataclass(frozen=True, eq=False)
class Query:
    """What chunks are fetched for.

    Attributes:
        vector_E: what the bank was searched with. question: what was asked, in words.
        forced: chunks that somebody wants in memory whatever the retriever says; nothing doubts them.
        pointed: chunks in which the answer was seen to stand (:func:`pointed_chunks`), which nothing doubts either;
            None looks for it in the chunks at hand.
    """

    vector_E: np.ndarray
    question: str
    forced: Collection[int] = ()
    pointed: Collection[int] | None = None


def memory_of(
    session: Session,
    query: Query,
    chunk_ids: Sequence[int],
    strength: float = 0.0,
    observer: MassObserver | None = None,
) -> MemoryContext | None:
    """Return these chunks as memory of one batch row, in the given order; None of none.

    Args:
        strength: added to the configured memory strength.
        observer: collects attention mass; None computes none.

    Raises:
        BankError: for a chunk that is not held.
    """
    if not chunk_ids:
        return None
    bank, model = session.bank, session.model
    gathered = bank.gather(chunk_ids, model.dtype, model.device)
    lengths = bank.lengths(chunk_ids)
    context = model.memory(gathered.keys_SNGCD, gathered.values_SNGCD, lengths, strength, observer)
    return replace(context, relevance_BM=relevance_of(session, query, chunk_ids))


def relevance_of(session: Session, query: Query, chunk_ids: Sequence[int]) -> torch.Tensor | None:
    """Return what is added to the memory logits of these chunks' tokens, [1, N * C], at most 0.

    It is relevance, doubt, and recency: where chunks of a document may answer about equally well, the last one counts.
    What somebody wants in memory, or surely points at, is not doubted.

    None where the memory treats all tokens alike.

    Raises:
        BankError: for a chunk that is not held.
    """
    config = session.config
    if not chunk_ids or not (config.relevance_strength or config.recency_strength):
        return None
    added_NC = np.zeros((len(chunk_ids), config.chunk_tokens), dtype=np.float32)
    if config.relevance_strength:
        sure = {*query.forced, *pointed_chunks(session, query, chunk_ids)}
        trusted = [at for at, chunk_id in enumerate(chunk_ids) if chunk_id in sure]
        asked = (query.vector_E, query.question, parts_of(session, chunk_ids))
        found_NC = relevance_to(session.retriever, *asked, config.chunk_tokens, trusted)
        added_NC += config.relevance_strength * found_NC
    if config.recency_strength:
        added_NC -= config.recency_strength * told_later(session, query, chunk_ids)[:, None]
    return torch.from_numpy(added_NC).view(1, -1).to(session.model.device)


def told_later(session: Session, query: Query, chunk_ids: Sequence[int]) -> np.ndarray:
    """Return for each chunk how many later ones of its document answer as surely (see ``Retriever.rivals``), [N].

    Chunks that somebody wants are not counted, nor are others for them.

    Raises:
        BankError: for a chunk that is not held.
    """
    rivals_N = session.retriever.rivals(query.vector_E, parts_of(session, chunk_ids), query.question)
    records = [session.bank.get(chunk_id) for chunk_id in chunk_ids]
    rivals_N = rivals_N & np.array([record.chunk_id not in query.forced for record in records])
    rivals = [record for record, rival in zip(records, rivals_N, strict=True) if rival]
    later = [
        sum(other.doc_id == record.doc_id and other.index_in_doc > record.index_in_doc for other in rivals)
        for record in records
    ]
    return np.where(rivals_N, later, 0).astype(np.float32)


def doubt_about(session: Session, query: Query, chunk_ids: Sequence[int]) -> float:
    """Return how surely none of these chunks answers the question, in logits (see ``Retriever.doubt``).

    0 where nobody looks at parts of chunks: it would be asked for this alone. 0 where words are surely pointed at.

    Raises:
        BankError: for a chunk that is not held.
    """
    config = session.config
    if not chunk_ids or not (config.rerank_candidates or config.relevance_strength):
        return 0.0
    if pointed_chunks(session, query, chunk_ids):
        return 0.0
    return float(session.retriever.doubt(query.vector_E, parts_of(session, chunk_ids), query.question).min())


def log_odds_of(session: Session, query: Query, chunk_ids: Sequence[int]) -> float | None:
    """Return the log-odds that one of these chunks answers; None where nobody can say, or somebody wants one of them.

    Raises:
        BankError: for a chunk that is not held.
    """
    if not chunk_ids or not session.config.abstention_strength or set(chunk_ids) & set(query.forced):
        return None
    found: float | None = session.retriever.log_odds(query.vector_E, parts_of(session, chunk_ids), query.question)
    return found


def pointed_at(
    session: Session, query: Query, chunk_ids: Sequence[int]
) -> tuple[dict[int, tuple[Pointed, ...]], float]:
    """Return which words of which of these chunks may be the answer, and how likely none of the chunks answers.

    Nothing and 0 where nobody can say.

    Raises:
        BankError: for a chunk that is not held.
    """
    if not chunk_ids or not session.config.pointing_strength:
        return {}, 0.0
    places = session.retriever.point(query.vector_E, parts_of(session, chunk_ids), query.question)
    if places is None:
        return {}, 0.0
    found: dict[int, tuple[Pointed, ...]] = {}
    for number, (start, end), likely in places.likeliest:
        chunk_id = chunk_ids[number]
        evidence = session.evidence_of(chunk_id)
        offset, words = evidence.span[0], evidence.text[start:end]
        found[chunk_id] = (*found.get(chunk_id, ()), Pointed((offset + start, offset + end), words, likely))
    return found, places.nowhere


def pointed_chunks(session: Session, query: Query, chunk_ids: Sequence[int]) -> Collection[int]:
    """Return in which of these chunks, more likely than not, the answer stands: who points at it has looked closest.

    Raises:
        BankError: for a chunk that is not held.
    """
    if query.pointed is not None:
        return query.pointed
    if not chunk_ids or not session.config.pointing_strength:
        return ()
    places = session.retriever.point(query.vector_E, parts_of(session, chunk_ids), query.question)
    return {chunk_ids[number] for number in places.holders()} if places is not None else ()


def reranked(session: Session, query_E: np.ndarray, question: str, hits: Sequence[Hit]) -> list[Hit]:
    """Return these hits with their scores after a second look at their parts, best first."""
    ids, found = [hit.chunk_id for hit in hits], [hit.score for hit in hits]
    scores = second_look(session.retriever, query_E, question, parts_of(session, ids), found)
    return sorted(map(Hit, ids, scores), key=lambda hit: (-hit.score, hit.chunk_id))


def parts_of(session: Session, chunk_ids: Sequence[int]) -> list[Parts]:
    """Return the parts of chunks that are held; those of late are kept, since a question asks for them several times.

    Raises:
        BankError: for a chunk that is not.
    """
    kept, lengths = session.parts, session.bank.lengths(chunk_ids)
    for chunk_id, length in zip(chunk_ids, lengths, strict=True):
        if chunk_id not in kept:
            kept[chunk_id] = cut_parts(session.tokenizer, session.evidence_of(chunk_id).text, length)
    found = [kept[chunk_id] for chunk_id in chunk_ids]
    # No text outlives its chunk here, and of many the first go.
    for chunk_id in [each for each in kept if each not in session.bank] + list(kept)[: max(0, len(kept) - _KEPT)]:
        kept.pop(chunk_id, None)
    return found
