"""The same model without a memory, every token attending to all earlier ones: what a memory is meant to spare."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from benchmarks.setups import Setup

BLOCK = 1024  # tokens of one forward pass; the whole text at once would need quadratic memory for its mask


@torch.no_grad()
def prefill(setup: Setup, tokens: int) -> DynamicCache:
    """Read ``tokens`` tokens with stock attention and cache, logits for the last token only."""
    ids = torch.randint(setup.sizes.vocab, (1, tokens), generator=torch.Generator().manual_seed(setup.seed))
    ids = ids.to(setup.device)
    cache = DynamicCache()
    for start in range(0, tokens, BLOCK):
        setup.llama(input_ids=ids[:, start : start + BLOCK], past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache
