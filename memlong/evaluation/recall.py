"""Evidence recall of a retriever alone: how often a chunk with the evidence is among the first k, without any model.

This bounds what a reader can answer from memory, and costs an embedding of the text in place of a reading.
Shapes: n chunks of a document, q questions, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from memlong.chunking import chunk_text
from memlong.config import MemoryConfig
from memlong.evaluation.qa import Document, overlap
from memlong.retriever.parts import cut_parts, second_look


@dataclass
class RecallResult:
    """Where evidence stood among the chunks, one entry a question of known evidence.

    Attributes:
        places: type of question -> (place of the first chunk with evidence, place by which every piece was found),
            each from 1. chunks: of all documents.
    """

    places: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    chunks: int = 0

    def table(self, at: Sequence[int]) -> dict[str, dict[str, float]]:
        """Return type -> {"questions", "at 1", "all at 1", ...}: shares of its questions."""
        found: dict[str, dict[str, float]] = {}
        for kind, places in self.places.items():
            row: dict[str, float] = {"questions": len(places)}
            for k in at:
                row[f"at {k}"] = fmean(first <= k for first, _ in places)
                row[f"all at {k}"] = fmean(last <= k for _, last in places)
            found[kind] = row
        return found


def evidence_recall(
    documents: Iterable[Document],
    tokenizer: Any,
    retriever: Any,
    config: MemoryConfig,
    progress: Callable[[str], bool] = lambda words: False,
) -> RecallResult:
    """Rank the chunks of each document for each of its questions; questions of unknown evidence are left out.

    Args:
        documents: (title, text, questions). tokenizer: of the model whose chunks are meant.
        config: how they are cut and ranked.
        progress: told in words what is done; when it returns True, what was ranked until then is returned.
    """
    result = RecallResult()
    for title, text, questions in documents:
        known = [question for question in questions if question.evidence]
        if not known:
            continue
        chunks = chunk_text(tokenizer, text, config.chunk_tokens, config.whole_sentences)
        spans = [chunk.span for chunk in chunks]
        if progress(f"{title}: {len(spans):,} chunks, {len(known):,} questions"):
            return result
        chunks_nE = retriever.embed_documents([text[start:end] for start, end in spans])
        asked_qE = np.stack([retriever.embed_query(question.question) for question in known])
        asked_qE = retriever.weigh_query(asked_qE, np.square(chunks_nE).mean(axis=0), len(chunks_nE))
        # As in a bank, of equal chunks the older one comes first.
        scores_qn = asked_qE @ chunks_nE.T
        result.chunks += len(spans)
        for question, query_E, scores_n in zip(known, asked_qE, scores_qn, strict=True):
            order = np.argsort(-scores_n, kind="stable")
            first = order[: config.rerank_candidates]
            if len(first):
                parts = [cut_parts(tokenizer, text[slice(*spans[at])], chunks[at].n_tokens) for at in first]
                looked = np.array(second_look(retriever, query_E, question.question, parts, scores_n[first]))
                order[: len(first)] = first[np.lexsort((first, -looked))]
            pieces = [_first(order, spans, piece) for piece in question.evidence]
            result.places.setdefault(question.type, []).append((min(pieces), max(pieces)))
    return result


def _first(order: np.ndarray, spans: Sequence[tuple[int, int]], piece: tuple[int, int]) -> int:
    """Return the place, from 1, of the first chunk that overlaps a piece of evidence; one behind the last if none."""
    return next((place for place, chunk in enumerate(order, 1) if overlap([spans[chunk]], [piece])), len(spans) + 1)
