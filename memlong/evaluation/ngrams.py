"""What followed what in the chunks that a bank holds: an n-gram cache beside a model's next-token probabilities.

A text repeats its own names and turns of speech far beyond the few chunks that a window retrieves. Counts of all that
is held tell them (Kuhn and De Mori 1990; Grave et al. 2017, arXiv 1711.02604, with hidden states in place of words).
For a history h of o tokens that was followed n times, by T different tokens, and c times by w, with Witten and Bell's
smoothing (1991),

    P_o(w) = (c + T P_{o-1}(w)) / (n + T),

where P_{o-1} is of one token of history less, and below no token at all stands the model's own probability p. So the
result is a line in p: a + b p, whatever the model says; and the cache takes a fixed share of the prediction.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from memlong.errors import ConfigError

ORDER = 3
"""Tokens of history at most. On six novels two give 0.02 more perplexity, five as much."""

WEIGHT = 0.05
"""Share of the cache in a prediction, chosen on these six novels (of 0.03 to 0.1)."""


class NGramCache:
    """Counts of n-grams in some chunks, each of which can leave.

    Args:
        weight: share of the cache in a prediction, from 0 to below 1. order: tokens of history at most.

    Raises:
        ConfigError: for another weight.
    """

    def __init__(self, weight: float = WEIGHT, order: int = ORDER) -> None:
        if not 0 <= weight < 1:
            raise ConfigError(f"An n-gram cache of weight {weight}", "0 (none) to below 1", f"Try {WEIGHT}")
        self.weight, self.order = weight, order
        self._followers: dict[tuple[int, ...], dict[int, int]] = {}
        self._totals: dict[tuple[int, ...], int] = {}
        self._chunks: dict[Hashable, tuple[list[int], int]] = {}

    def add(self, key: Hashable, before: Sequence[int], tokens: Sequence[int]) -> None:
        """Count a chunk's ``tokens``; ``before`` are the tokens in front of it, which are history alone."""
        known = list(before[max(0, len(before) - self.order) :])
        self._chunks[key] = [*known, *tokens], len(known)
        self._count(*self._chunks[key], 1)

    def remove(self, key: Hashable) -> None:
        """Forget a chunk.

        Raises:
            KeyError: for one that is not held.
        """
        self._count(*self._chunks.pop(key), -1)

    def line(self, history: Sequence[int], token: int) -> tuple[float, float]:
        """Return a and b of the cache's probability a + b p of ``token`` after ``history``."""
        a, b = 0.0, 1.0
        for order in range(min(self.order, len(history)) + 1):
            past = tuple(history[len(history) - order :])
            total = self._totals.get(past)
            if not total:
                break  # no longer history was seen either
            followers = self._followers[past]
            kinds = len(followers)
            a = (followers.get(token, 0) + kinds * a) / (total + kinds)
            b *= kinds / (total + kinds)
        return a, b

    def lines(self, before: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Return a and b [n, 2] of each of n tokens that follow ``before`` one after the other."""
        known = [*before[max(0, len(before) - self.order) :], *tokens]
        first = len(known) - len(tokens)
        found = [self.line(known[max(0, at - self.order) : at], known[at]) for at in range(first, len(known))]
        return torch.tensor(found, dtype=torch.float64).reshape(-1, 2)

    def mix(self, losses_n: Tensor, lines_n2: Tensor) -> Tensor:
        """Return the losses [n], in nats, of predictions in which the cache has its share."""
        p = losses_n.double().neg().exp()
        a, b = lines_n2.unbind(1)
        return -((1 - self.weight) * p + self.weight * (a + b * p)).log()

    def _count(self, tokens: Sequence[int], first: int, sign: int) -> None:
        for at in range(first, len(tokens)):
            for order in range(min(self.order, at) + 1):
                past = tuple(tokens[at - order : at])
                followers = self._followers.setdefault(past, {})
                followers[tokens[at]] = followers.get(tokens[at], 0) + sign
                self._totals[past] = self._totals.get(past, 0) + sign
                if not followers[tokens[at]]:
                    del followers[tokens[at]]
                if not followers:
                    del self._followers[past], self._totals[past]
