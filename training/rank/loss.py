"""The loss of a question's parts, with a null part that an unanswerable question prefers to all of them."""

from __future__ import annotations

from torch import Tensor, cat, logaddexp, logsumexp


def listwise_loss(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return -log of the share of a positive part among itself, the negative ones and a null part of logit 0.

    With positives p and rest = log(exp(0) + sum exp(negatives)) it is the mean over p of log(exp(p) + exp(rest)) - p;
    without a positive it is ``rest``, whose lowest point has all negatives far below 0: -log of the null part's share.

    Sources: localised contrastive estimation for rerankers (Gao, Dai and Callan 2021, arXiv 2101.08751); the score of
    no answer as one more candidate as in BERT on SQuAD 2.0 (Devlin et al. 2018, arXiv 1810.04805).

    Args:
        positives: logits of the parts that hold the evidence, [p], p from 0. negatives: those of the others, [q].

    Returns:
        A scalar.
    """
    rest = logsumexp(cat([negatives, negatives.new_zeros(1)]), dim=0)
    return (logaddexp(positives, rest) - positives).mean() if len(positives) else rest
