"""Retrieval attention for training on a CPU: no gradient for stored K-V, and no work on padding.

The concatenated kernel (:func:`~memlong.attention.retrieval.fused`) computes gradients for all keys and values, the
retrieved ones included, which nobody trains, and treats every row of a batch as long as the longest. Here some queries
of one row at a time attend to the keys that they see, so that their weights stay in the processor's cache; ten times
as fast for a batch of short questions beside long memories.

Gradient of out = P V with P = softmax(Z): dZ = P * (dP - rowsum(dOut * out)), dP = dOut V^T (Dao et al.,
FlashAttention, arXiv 2205.14135, appendix B.2).

Shapes: as in :mod:`~memlong.attention.retrieval`; of one row: R query heads a key/value head, t tokens and s local
keys from its first visible one on, m memory tokens, K = m + s.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from memlong.attention.retrieval import LocalPart, MemoryPart


def applies(local: LocalPart, memory: MemoryPart) -> bool:
    """Whether :func:`by_row` computes these gradients: CPU, no dropout, frozen memory, one mask for all heads."""
    mask, (keys, values) = local.mask, memory.kv
    return (
        local.query_BHTD.device.type == "cpu"
        and not local.dropout
        and local.softcap is None
        and local.sinks_H is None
        and not (keys.requires_grad or values.requires_grad)
        and (mask is None or (mask.dtype == torch.bool and mask.shape[1] == 1))
    )


def by_row(local: LocalPart, memory: MemoryPart) -> Tensor:
    """Return out [B, H, T, D]; gradients flow to local queries, keys and values and to a learned bias.

    Rows of queries that see no local key (left padding) give zeros.
    """
    bias = memory.bias if isinstance(memory.bias, Tensor) else torch.full((), float(memory.bias))
    out: Tensor = _ByRow.apply(local.query_BHTD, local.key_BGSD, local.value_BGSD, bias, (local, memory))  # type: ignore[no-untyped-call]
    return out


_QUERIES = 128  # of one step: 3 query heads, 2,048 keys and float32 take 3 MB


class _ByRow(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, parts: tuple[LocalPart, MemoryPart]
    ) -> Tensor:
        local, memory = parts
        out, kept, places = torch.zeros_like(query), [], []
        for row in range(len(query)):
            first, start, visible = _seen(local, row)
            keys, values = _keys(key, value, memory, row, start)
            far = _relevance(memory, row)
            for begin in range(0, len(visible), _QUERIES):
                seen = visible[begin : begin + _QUERIES]
                at, near = slice(first + begin, first + begin + len(seen)), _reach(seen)
                end = keys.shape[1] - visible.shape[1] + near  # later keys are hidden from all of these queries
                queries = query[row, :, at].reshape(key.shape[1], -1, query.shape[3])
                states = queries, keys[:, :end], values[:, :end]
                weights = _weights(*states[:2], _row_bias(bias, queries) + far, seen[:, :near], local.scaling)
                answer = torch.bmm(weights, states[2])  # [G, R * t, D]
                out[row, :, at] = answer.view(out.shape[1], -1, out.shape[3])
                kept += [*states, weights, answer]
                places.append((row, at, slice(start, start + near)))
        ctx.save_for_backward(*kept)
        ctx.places, ctx.scaling = places, local.scaling
        ctx.sizes, ctx.bias_shape = (query.shape, key.shape), bias.shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query_shape, key_shape = ctx.sizes
        d_query, d_key, d_value = grad.new_zeros(query_shape), grad.new_zeros(key_shape), grad.new_zeros(key_shape)
        d_bias = torch.zeros(ctx.bias_shape) if ctx.needs_input_grad[3] else None
        saved = ctx.saved_tensors
        for block, (row, at, local) in enumerate(ctx.places):
            query, keys, values, weights, answer = saved[5 * block : 5 * block + 5]
            d_out = grad[row, :, at].reshape(answer.shape)
            lost = (d_out * answer).sum(dim=-1, keepdim=True, dtype=torch.float32)
            d_logits = torch.bmm(d_out, values.transpose(1, 2)).float().sub_(lost).mul_(weights)
            memory = keys.shape[1] - (local.stop - local.start)
            if d_bias is not None:
                per_head = d_logits[..., :memory].sum(dim=-1).view(query_shape[1], -1).sum(dim=-1)
                d_bias += per_head if d_bias.dim() else per_head.sum()
            narrow = d_logits.mul_(ctx.scaling).to(query.dtype)
            d_query[row, :, at] = torch.bmm(narrow, keys).view(query_shape[1], -1, query_shape[3])
            d_key[row, :, local] += torch.bmm(narrow[..., memory:].transpose(1, 2), query)
            d_value[row, :, local] += torch.bmm(weights[..., memory:].transpose(1, 2), d_out)
        return d_query, d_key, d_value, d_bias, None


def _seen(local: LocalPart, row: int) -> tuple[int, int, Tensor]:
    """Return a row's first query that sees anything, its first visible key, and what is visible from there [t, s]."""
    tokens, keys = local.query_BHTD.shape[2], local.key_BGSD.shape[2]
    if local.mask is None:
        return 0, 0, torch.ones(tokens, keys, dtype=torch.bool).tril_(keys - tokens)
    mask = local.mask[row if len(local.mask) > 1 else 0, 0, :, :keys]
    seeing, seen = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    first, start = (int(found[0]) if len(found) else 0 for found in (seeing, seen))
    return first, start, mask[first:, start:]


def _reach(visible: Tensor) -> int:
    """Return how many keys [t, s] it takes to hold all that some query sees."""
    seen = visible.any(dim=0).nonzero()
    return int(seen[-1]) + 1 if len(seen) else 0


def _keys(key: Tensor, value: Tensor, memory: MemoryPart, row: int, start: int) -> tuple[Tensor, Tensor]:
    """Return a row's keys and values [G, m + s, D]."""
    far, dtype = memory.kv, key.dtype
    there = _there(memory, row)
    pairs = ((far.keys_BGMD, key), (far.values_BGMD, value))
    keys, values = (torch.cat([old[row][:, there].to(dtype), new[row, :, start:]], dim=1) for old, new in pairs)
    return keys, values


def _there(memory: MemoryPart, row: int) -> slice | Tensor:
    """Return where a row's memory tokens are: a slice, unless a short chunk lies between others."""
    if memory.padding_BM is None:
        return slice(None)
    there = (~memory.padding_BM[row]).nonzero()[:, 0]
    in_front = not len(there) or int(there[-1]) == len(there) - 1
    return slice(len(there)) if in_front else there


def _relevance(memory: MemoryPart, row: int) -> Tensor:
    """Return r_m [m] of a row's memory tokens, or zero."""
    return torch.zeros(()) if memory.relevance_BM is None else memory.relevance_BM[row, _there(memory, row)]


def _row_bias(bias: Tensor, query: Tensor) -> Tensor:
    """Return b_h for the queries of a row: [G, R * t, 1], or a number as a tensor."""
    if not bias.dim():
        return bias
    groups, rows = query.shape[:2]
    return bias.float().view(groups, -1, 1).expand(-1, -1, rows * groups // len(bias)).reshape(groups, rows, 1)


def _weights(query: Tensor, keys: Tensor, bias: Tensor, visible: Tensor, scaling: float) -> Tensor:
    """Return P [G, R * t, K] in the queries' type, summed up in float32."""
    logits = torch.bmm(query, keys.transpose(1, 2)).float().mul_(scaling)
    tokens, near = visible.shape
    memory = keys.shape[1] - near
    if bias.dim() or float(bias):
        logits[..., :memory] += bias
    local = logits[..., memory:].unflatten(1, (-1, tokens))  # a view: [G, R, t, s]
    local.masked_fill_(~visible, -math.inf)
    weights = logits.softmax(dim=-1).to(query.dtype)
    blind = ~visible.any(dim=1)
    if bool(blind.any()):
        # Padding may have no softmax at all, and not-a-number would spread; any other one must be seen, not hidden.
        weights.unflatten(1, (-1, tokens)).masked_fill_(blind[:, None], 0.0)
    return weights
