"""Whether an answer says that the text does not tell, with what the retriever knows of that.

A small model that was trained to say so says it too seldom where no chunk answers, and at times where one surely does.
Who reads the question beside the chunks knows better which of the two it is: so the tokens of these words gain some
logits where most likely none of the chunks answers, and lose as many where one surely does. Where words are pointed at,
who points at them has looked closer, and has this say instead (``pointing.py``).

Shapes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from memlong.prompt import answer_words

_UNLIKELY = -1.0  # log-odds below which the words gain; EXPERIMENTS.md has others
_SURE = 4.0  # log-odds from which they lose
_BEGINNING = 2  # tokens of the words that lose: behind them nothing else would make sense


class Abstaining:
    """What the log-odds of an answer in memory make of the next token's logits.

    Args:
        tokenizer: the model's. words: by which the model says that the text does not tell; "" for a model without.
        strength: logits that their tokens gain or lose; 0 leaves all as they are.

    Attributes:
        log_odds: that the text at hand answers; None where nobody can say.
    """

    def __init__(self, tokenizer: Any, words: str, strength: float) -> None:
        self._strength = strength if words else 0.0
        self._ids = answer_words(tokenizer, words) if self._strength else []
        self.log_odds: float | None = None

    def adjust(self, logits_V: Tensor, tokens: Sequence[int]) -> Tensor:
        """Return the logits of the token after ``tokens``, the answer so far."""
        at = len(tokens)
        if self.log_odds is None or at >= len(self._ids) or [*tokens] != self._ids[:at]:
            return logits_V
        gain = self._strength if self.log_odds < _UNLIKELY else 0.0
        if self.log_odds >= _SURE and at < _BEGINNING:
            gain = -self._strength
        if not gain:
            return logits_V
        adjusted_V = logits_V.clone()
        adjusted_V[self._ids[at]] += gain
        return adjusted_V
