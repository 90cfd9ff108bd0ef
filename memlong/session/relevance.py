"""How much each retrieved token has to do with the text at hand, beside how much its chunk has.

Shapes: N chunks, C chunk tokens, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from memlong.retriever.parts import cut_parts, part_scores, relevance

if TYPE_CHECKING:
    from memlong.session.session import Session


def relevance_of(session: Session, query_E: np.ndarray, chunk_ids: Sequence[int]) -> torch.Tensor | None:
    """Return what is added to the memory logits of these chunks' tokens, [1, N * C], at most 0.

    None where the memory treats all tokens alike.

    Args:
        query_E: what the bank was searched with.

    Raises:
        BankError: for a chunk that is not held.
    """
    strength = session.config.relevance_strength
    if not strength or not chunk_ids:
        return None
    lengths = session.bank.lengths(chunk_ids)
    texts = [session.evidence_of(chunk_id).text for chunk_id in chunk_ids]
    parts = [cut_parts(session.tokenizer, text, length) for text, length in zip(texts, lengths, strict=True)]
    found_NC = relevance(parts, part_scores(session.retriever, query_E, parts), session.config.chunk_tokens)
    return torch.from_numpy(strength * found_NC).view(1, -1).to(session.model.device)
