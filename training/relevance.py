"""What each chunk's tokens have to do with each question, worked out once for a whole run.

Shapes: A questions of a document, P parts of all its chunks, B questions of a step, N chunks, C chunk tokens, E
embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlong.retriever.base import Retriever
from memlong.retriever.parts import Parts, cut_parts, relevance
from training.data.passages import Passages


@dataclass(frozen=True)
class ScoredParts:
    """The parts of a document's chunks, and how well each matches each question.

    Attributes:
        parts: of every chunk. scores_AP: of every question. starts: where each chunk's parts begin among P.
    """

    parts: tuple[Parts, ...]
    scores_AP: np.ndarray
    starts: tuple[int, ...]

    def relevance(self, question: int, chunks: Sequence[int], chunk_tokens: int) -> np.ndarray:
        """Return what ``memlong.retriever.parts.relevance`` says of these chunks, [N, C]."""
        parts = [self.parts[chunk] for chunk in chunks]
        first = [self.starts[chunk] for chunk in chunks]
        row_P = self.scores_AP[question]
        scores = [row_P[at : at + len(each.ranges)] for at, each in zip(first, parts, strict=True)]
        return relevance(parts, scores, chunk_tokens)


def score_parts(
    tokenizer: Any, documents: Sequence[Passages], retriever: Retriever, questions: Mapping[str, np.ndarray]
) -> dict[str, ScoredParts]:
    """Return doc_id -> its scored parts.

    Args:
        tokenizer: the model's. questions: doc_id -> [A, E], as they search a bank of that document.
    """
    found = {}
    for document in documents:
        pairs = zip(document.texts, document.chunks, strict=True)
        cut = [cut_parts(tokenizer, text, chunk.n_tokens) for text, chunk in pairs]
        vectors_PE = retriever.embed_parts([text for each in cut for text in each.texts])
        starts = np.cumsum([0, *(len(each.ranges) for each in cut)])[:-1]
        bare = tuple(each._replace(texts=()) for each in cut)
        scores_AP = np.asarray(questions[document.doc_id] @ vectors_PE.T, dtype=np.float32)
        found[document.doc_id] = ScoredParts(bare, scores_AP, tuple(starts.tolist()))
    return found


def stack_relevance(rows: Sequence[np.ndarray | None], chunks: int, chunk_tokens: int, strength: float) -> Tensor:
    """Return what is added to the memory logits of a batch, [B, N * C]; zeros where a row has no relevance."""
    stacked_BNC = torch.zeros(len(rows), chunks, chunk_tokens)
    for row, found_NC in zip(stacked_BNC, rows, strict=True):
        if found_NC is not None:
            row[: len(found_NC)] = strength * torch.from_numpy(found_NC)
    return stacked_BNC.flatten(1)
