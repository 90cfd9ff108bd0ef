"""Causal attention of whole windows in blocks of queries, for number types whose fused kernel on a CPU is slow.

torch's kernel for bfloat16 on a CPU takes half as long again as its products do in blocks: some rows of queries against
the keys up to them, logits and softmax in float32, weights against values in the type at hand. The upper triangle is
left out but for its part of a block, and what is between stays in the processor's cache. Whether it is faster is
measured once (:func:`faster`).

Shapes: B batch, H query heads, G key/value heads, R = H / G, T tokens, D head size, S queries of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from time import thread_time

import torch
from torch import Tensor
from torch.nn import functional

_QUERIES = 64  # of a block; with 32 and 128 it takes a tenth longer
_ROWS = 2  # of the batch at a time: more leave the cache, one makes the products small
_LEAST_TOKENS = 128
_CLEARLY_FASTER = 0.9


def serves(query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor) -> bool:
    """Whether :func:`causal` computes these states, and faster than the fused kernel. Without a gradient alone."""
    tokens, dtype = query_BHTD.shape[2], query_BHTD.dtype
    return (
        query_BHTD.device.type == "cpu"
        and dtype in (torch.bfloat16, torch.float16)
        and tokens >= _LEAST_TOKENS
        and key_BGTD.shape[2] == tokens
        and value_BGTD.shape[-1] == query_BHTD.shape[-1]
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in (query_BHTD, key_BGTD, value_BGTD)))
        and not torch.is_autocast_enabled("cpu")
        and faster(dtype)
    )


def causal(query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, scaling: float) -> Tensor:
    """Return softmax(q k^T * scaling + causal) v, [B, T, H, D], of queries and keys that stand at the same places."""
    batch, heads, tokens, size = query_BHTD.shape
    kv_heads = key_BGTD.shape[1]
    out = torch.empty(batch, tokens, heads, size, dtype=query_BHTD.dtype, device=query_BHTD.device)
    later = torch.full((_QUERIES, _QUERIES), -math.inf, device=out.device).triu(1)
    for row in range(0, batch, _ROWS):
        rows = slice(row, row + _ROWS)
        query = (query_BHTD[rows].float() * scaling).unflatten(1, (kv_heads, -1))  # [., G, R, T, D]
        key = key_BGTD[rows].float().flatten(0, 1).transpose(1, 2)
        value = value_BGTD[rows].flatten(0, 1)
        filled = out[rows].unflatten(2, (kv_heads, -1))  # [., T, G, R, D]
        for start in range(0, tokens, _QUERIES):
            end = min(start + _QUERIES, tokens)
            asked = query[:, :, :, start:end]
            logits = torch.bmm(asked.reshape(len(value), -1, size), key[:, :, :end])
            logits = logits.unflatten(1, (-1, end - start))  # [. * G, R, S, end]
            logits[..., start:] += later[: end - start, : end - start]
            weights = logits.softmax(-1).to(value.dtype).flatten(1, 2)
            found = torch.bmm(weights, value[:, :end]).view(asked.shape)
            filled[:, start:end] = found.permute(0, 3, 1, 2, 4)
    return out


@lru_cache(maxsize=4)
def faster(dtype: torch.dtype) -> bool:
    """Whether blocks take clearly less time than the fused kernel on this processor; some 50 milliseconds, once."""
    with torch.no_grad():
        query, key = torch.ones(2, 8, 256, 64, dtype=dtype), torch.ones(2, 2, 256, 64, dtype=dtype)

        def fused() -> Tensor:
            return functional.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)

        def blocks() -> Tensor:
            return causal(query, key, key, 0.125)

        times: dict[Callable[[], Tensor], float] = {}
        for _ in range(7):  # in turns, so that whatever slows the machine slows both
            for attend in (fused, blocks):
                started = thread_time()
                attend()
                times[attend] = min(times.get(attend, math.inf), thread_time() - started)
    return times[blocks] < _CLEARLY_FASTER * times[fused]
