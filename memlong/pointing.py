"""What points at an answer's words has a say in how the answer is written.

A small model finds the right passage more often than it says the right words of it. Who reads the question beside the
best parts of what was retrieved can tell which of their words answer it (``retriever/pointer.py``). So the token with
which one of these answers begins, or goes on behind what was written of it, gains some logits, the more the likelier
that answer is; behind its last token the answer's end does. What the model says instead is left to it.

A mixture of what a decoder writes and what is copied from a source, as of See et al. 2017 (Pointer-Generator Networks,
arXiv 1704.04368), in logits, so that the strength says how sure the model must be to have its own way.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import log1p
from typing import Any

from torch import Tensor

from memlong.prompt import answer_words

_FLOOR = 0.05  # how likely an answer is that gains about a fifth of what a sure one does


class Pointing:
    """Answers that may stand in the text, and what they make of the next token's logits.

    Args:
        tokenizer: the model's. strength: logits that the tokens of a sure answer gain; 0 leaves all as they are.
        ends: tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, strength: float, ends: Collection[int]) -> None:
        self._tokenizer, self._strength, self._ends = tokenizer, strength, list(ends)
        self._answers: list[tuple[list[int], float]] = []

    def expect(self, answers: Mapping[str, float]) -> None:
        """Take answers and how likely each is, 0 to 1, in place of those known so far; their words are only text."""
        known = [(text, likely) for text, likely in answers.items() if text and likely > 0] if self._strength else []
        self._answers = [(answer_words(self._tokenizer, text), likely) for text, likely in known]

    def adjust(self, logits_V: Tensor, tokens: Sequence[int]) -> Tensor:
        """Return the logits of the token after ``tokens``, the answer so far."""
        next_ones: dict[int, float] = {}
        so_far = list(tokens)
        for ids, likely in self._answers:
            if so_far == ids[: len(so_far)]:
                for token in [ids[len(so_far)]] if len(ids) > len(so_far) else self._ends:
                    next_ones[token] = next_ones.get(token, 0.0) + likely
        if not next_ones:
            return logits_V
        adjusted_V = logits_V.clone()
        for token, likely in next_ones.items():
            adjusted_V[token] += self._strength * log1p(min(likely, 1.0) / _FLOOR) / log1p(1 / _FLOOR)
        return adjusted_V
