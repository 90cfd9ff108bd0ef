"""Parts of a chunk: which of its tokens a text is about, by how well the words around each of them match it.

A chunk holds more than is asked for, and what is not evidence is a distractor as long as itself. So a chunk is cut
into parts that overlap by half, and each part is scored by the retriever: with the very vector that found the chunk, or
by reading it beside the question. The best part says whether the chunk should be fetched at all (a second look), and a
token's relevance is how far the best part around it falls short of the best part of all that was retrieved.

Shapes: P parts of a chunk, N chunks, C chunk tokens, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from memlong.chunking import iter_tokens
from memlong.retriever.base import Parts, Range, Retriever, Vectors

PART_TOKENS = 32
MARGIN_TOKENS = 8  # on both sides of a part, for who reads it: a sentence cut in two says little


def cut_parts(tokenizer: Any, text: str, n_tokens: int, size: int = PART_TOKENS) -> Parts:
    """Cut a chunk of ``n_tokens`` tokens into parts of ``size`` tokens that overlap by half, one at least."""
    spans = token_spans(tokenizer, text, n_tokens)
    starts = range(0, max(n_tokens - size // 2, 1), max(1, size // 2))
    ranges = tuple((start, min(start + size, n_tokens)) for start in starts)
    # Cut out of its text, a chunk may come out as fewer tokens than it has there.
    edges = [*(begin for begin, _ in spans), *[len(text)] * (n_tokens + 1 - len(spans))]
    wider = [(max(0, start - MARGIN_TOKENS), min(end + MARGIN_TOKENS, n_tokens)) for start, end in ranges]
    texts = tuple(text[edges[start] : edges[end]] for start, end in ranges)
    places = tuple((edges[start], edges[end]) for start, end in wider)
    return Parts(ranges, texts, n_tokens, tuple(text[start:end] for start, end in places), text, places)


def token_spans(tokenizer: Any, text: str, n_tokens: int) -> list[Range]:
    """Return the characters of the first ``n_tokens`` tokens of a chunk's text, at most as many as it has."""
    return [(start, end) for _, start, end in iter_tokens(tokenizer, text)][:n_tokens]


def second_look(
    retriever: Retriever, query_E: Vectors, question: str, parts: Sequence[Parts], found_N: Sequence[float]
) -> list[float]:
    """Return the scores of chunks after a look at their parts: half the chunk's own, half its best part's.

    Args:
        query_E: what the chunks were found with. question: its words. parts: of each.
        found_N: its inner products with them.
    """
    scores = retriever.score_parts(query_E, parts, question)
    return [0.5 * float(found) + 0.5 * float(each.max()) for found, each in zip(found_N, scores, strict=True)]


def relevance_to(
    retriever: Retriever,
    query_E: Vectors,
    question: str,
    parts: Sequence[Parts],
    chunk_tokens: int,
    trusted: Sequence[int] = (),
) -> Vectors:
    """Return [N, C], at most 0: each token's relevance, less the doubt whether its chunk answers.

    Args:
        query_E: what the chunks were found with. question: its words. parts: of each.
        trusted: places of chunks that are not doubted, whatever the retriever says.
    """
    found_NC = relevance(parts, retriever.score_parts(query_E, parts, question), chunk_tokens)
    doubt_N = np.array(retriever.doubt(query_E, parts, question), dtype=np.float32)  # a copy: it is the retriever's own
    doubt_N[list(trusted)] = 0
    return found_NC - doubt_N[:, None]


def relevance(parts: Sequence[Parts], scores: Sequence[Vectors], chunk_tokens: int) -> Vectors:
    """Return [N, C], at most 0: each token's best score around it less the best one of all; 0 behind a chunk's end."""
    found_NC = np.zeros((len(parts), chunk_tokens), dtype=np.float32)
    best = max((float(each.max()) for each in scores), default=0.0)
    for row, each, mine in zip(found_NC, parts, scores, strict=True):
        row[: each.n_tokens] = -np.inf
        for (start, end), score in zip(each.ranges, mine, strict=True):
            np.maximum(row[start:end], score - best, out=row[start:end])
    return found_NC
