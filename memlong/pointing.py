"""What points at an answer's words has a say in how the answer is written.

A small model finds the right passage more often than it says the right words of it. Who reads the question beside the
best parts of what was retrieved can tell which of their words answer it (``retriever/pointer.py``). So the token with
which one of these answers begins, or goes on behind what was written of it, gains some logits, the more the likelier
that answer is; behind its last token the answer's end does. What the model says instead is left to it.

A mixture of what a decoder writes and what is copied from a source, as of See et al. 2017 (Pointer-Generator Networks,
arXiv 1704.04368), in logits, so that the strength says how sure the model must be to have its own way.

That none of the words answers is likelier the more who points says so and the more the model itself would say so; the
two know different things. Both are added in logits, and beyond a threshold the words that say so gain, and no others.
What begins with the same token as they do may be meant by it; then the next one tells.

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import log, log1p
from typing import Any

from torch import Tensor

from memlong.prompt import answer_words

_FLOOR = 0.05  # how likely an answer is that gains about a fifth of what a sure one does
_WEIGHT = 0.45  # of the log-odds that no words answer; EXPERIMENTS.md has others, and other thresholds
_LEAST = -1.5  # of their sum with the model's own log-probability of beginning to say so
_SURE = 1e-6  # log-odds are those of nothing surer than this


class Pointing:
    """Answers that may stand in the text, and what they make of the next token's logits.

    Args:
        tokenizer: the model's. strength: logits that the tokens of a sure answer gain; 0 leaves all as they are.
        ends: tokens that end an answer.
        abstention: words by which the model says that the text does not tell; "" for a model without.
        doubt: logits that these words gain, or ``strength``, if that is more; 0: nobody says so because of this.
    """

    def __init__(
        self, tokenizer: Any, strength: float, ends: Collection[int], abstention: str = "", doubt: float = 0.0
    ) -> None:
        self._tokenizer, self._strength, self._ends = tokenizer, strength, list(ends)
        self._silence = answer_words(tokenizer, abstention) if strength and abstention and doubt else []
        self._doubt = max(doubt, strength)
        self.expect({})

    def expect(self, answers: Mapping[str, float], nowhere: float | None = None) -> None:
        """Take answers and how likely each is, 0 to 1, in place of those known so far; their words are only text.

        Args:
            nowhere: how likely none of them answers, 0 to 1; None where nobody is to say so because of this.
        """
        known = [(text, likely) for text, likely in answers.items() if text and likely > 0] if self._strength else []
        self._answers = [(answer_words(self._tokenizer, text), likely) for text, likely in known]
        self._nowhere = nowhere if self._silence else None
        self._own: dict[int, float] = {}
        self._silent = False

    def adjust(self, logits_V: Tensor, tokens: Sequence[int]) -> Tensor:
        """Return the logits of the token after ``tokens``, the answer so far."""
        so_far = list(tokens)
        if self._nowhere is not None:
            self._decide(self._nowhere, logits_V, so_far)
        at = len(so_far)
        if self._silent:
            known = so_far == self._silence[:at]
            ahead = self._silence[at : at + 1] or self._ends
            return _raised(logits_V, dict.fromkeys(ahead, self._doubt) if known else {})
        next_ones: dict[int, float] = {}
        for ids, likely in self._answers:
            if so_far == ids[:at]:
                for token in [ids[at]] if len(ids) > at else self._ends:
                    next_ones[token] = next_ones.get(token, 0.0) + likely
        gains = {token: log1p(min(likely, 1.0) / _FLOOR) / log1p(1 / _FLOOR) for token, likely in next_ones.items()}
        return _raised(logits_V, {token: self._strength * gain for token, gain in gains.items()})

    def _decide(self, nowhere: float, logits_V: Tensor, so_far: list[int]) -> None:
        """Find out whether no words answer; for the next token alone while it may yet be an answer's too."""
        at = len(so_far)
        if at >= len(self._silence) or so_far != self._silence[:at]:
            self._silent, self._nowhere = False, None
            return
        begun = self._silence[: at + 1]
        self._own[at] = float(logits_V.log_softmax(dim=-1)[begun[-1]])
        likely = min(max(nowhere, _SURE), 1 - _SURE)
        # The model's own log-probability can only fall with each further token, so a no is the last word.
        self._silent = sum(self._own.values()) + _WEIGHT * log(likely / (1 - likely)) > _LEAST
        alike = any(share > _FLOOR and ids[: at + 1] == begun for ids, share in self._answers)
        if not self._silent or not alike or len(begun) == len(self._silence):
            self._nowhere = None


def _raised(logits_V: Tensor, gains: Mapping[int, float]) -> Tensor:
    if not gains:
        return logits_V
    raised_V = logits_V.clone()
    for token, gain in gains.items():
        raised_V[token] += gain
    return raised_V
