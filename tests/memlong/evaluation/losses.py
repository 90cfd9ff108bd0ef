"""The loss of every token of a text, from a scorer's logits: what its sums are compared with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from memlong.evaluation.perplexity import Scorer


def token_losses(scorer: Scorer, text: str) -> Tensor:
    """Return the negative log-likelihood [tokens - 1] of every token but the first, in nats."""
    logits, ids = zip(*(block.flat() for block in scorer.logits(text)), strict=True)
    return functional.cross_entropy(torch.cat(logits)[:-1].float(), torch.cat(ids)[1:], reduction="none")
