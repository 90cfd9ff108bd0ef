"""Which chunks a question fetches after a second look at their parts, and what their tokens have to do with it.

Shapes: A questions of a document, B questions of a step, N chunks, C chunk tokens, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlong.retriever.base import Parts, Retriever, Vectors
from memlong.retriever.parts import cut_parts, relevance_to, second_look
from training.data.passages import Passages


class ScoredParts:
    """How well the parts of a document's chunks match its questions; cut and scored when somebody asks.

    Args:
        tokenizer: the model's. questions_AE: as they search a bank of the document.
    """

    def __init__(self, tokenizer: Any, document: Passages, retriever: Retriever, questions_AE: Vectors) -> None:
        self._tokenizer, self._document = tokenizer, document
        self._retriever, self._questions_AE = retriever, questions_AE
        self._cut: dict[int, Parts] = {}

    def ranked(self, question: int, chunks: Sequence[int], found_N: Sequence[float]) -> list[int]:
        """Return these chunks in the order of a second look (see ``memlong.retriever.parts.second_look``).

        Args:
            found_N: the scores that found them.
        """
        scores = second_look(self._retriever, *self._asked(question), self._parts(chunks), found_N)
        return [chunk for _, chunk in sorted(zip(scores, chunks, strict=True), key=lambda each: (-each[0], each[1]))]

    def relevance(self, question: int, chunks: Sequence[int], chunk_tokens: int) -> Vectors:
        """Return what ``memlong.retriever.parts.relevance_to`` says of these chunks, [N, C]."""
        return relevance_to(self._retriever, *self._asked(question), self._parts(chunks), chunk_tokens)

    def _asked(self, question: int) -> tuple[Vectors, str]:
        return self._questions_AE[question], self._document.asked[question].question.question

    def _parts(self, chunks: Sequence[int]) -> list[Parts]:
        for chunk in chunks:
            if chunk not in self._cut:
                text, n_tokens = self._document.texts[chunk], self._document.chunks[chunk].n_tokens
                self._cut[chunk] = cut_parts(self._tokenizer, text, n_tokens)
        return [self._cut[chunk] for chunk in chunks]


def stack_relevance(rows: Sequence[np.ndarray | None], chunks: int, chunk_tokens: int, strength: float) -> Tensor:
    """Return what is added to the memory logits of a batch, [B, N * C]; zeros where a row has no relevance."""
    stacked_BNC = torch.zeros(len(rows), chunks, chunk_tokens)
    for row, found_NC in zip(stacked_BNC, rows, strict=True):
        if found_NC is not None:
            row[: len(found_NC)] = strength * torch.from_numpy(found_NC)
    return stacked_BNC.flatten(1)
