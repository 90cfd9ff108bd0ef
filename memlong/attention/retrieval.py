"""Retrieval causal attention, in four implementations of one formula.

    out = softmax([ q K_mem^T * s + b_h + r_m + mask_mem ; q K_loc^T * s + causal ]) [V_mem ; V_loc]

one joint softmax over retrieved and local keys (MemLong, arXiv 2408.16967, section 3.3; the bias b_h stands in
for its gate, r_m for how relevant a memory token is). Memory is in the past, so every local token may see all of it.

- ``eager``: every option, and the weights; the reference the others are tested against.
- ``fused``: one concatenated call; differentiable, and one kernel on a GPU.
- ``single``: explicit weights for one query token; the fast one while generating on a CPU, inference only.
- ``merged``: two calls joined by their log-sum-exp, no mask tensor; the fast one on a CPU, inference only. One row
  per chunk gives the attention mass of each chunk at no further cost.

Shapes: B batch, H query heads, G key/value heads, T local queries, S local keys (S >= T with a cache), N chunks,
C chunk tokens, M = N * C, D head size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from memlong.attention.context import EvidenceFocus, LayerMemory


@dataclass(frozen=True)
class LocalPart:
    """The local half of the attention, as a model's attention module hands it over.

    Attributes:
        query_BHTD, key_BGSD, value_BGSD: projections; keys rotated to their positions.
        mask: [B or 1, 1 or H, T, S] bool (True = visible) or additive; None means bottom-right causal.
        scaling: s, the factor on q k^T.
        dropout: probability while training.
        softcap: logits become softcap * tanh(logits / softcap) (Gemma 2); None leaves them.
        sinks_H: a learned extra logit per head that takes attention and gives no value (GPT-OSS); None has none.
    """

    query_BHTD: Tensor
    key_BGSD: Tensor
    value_BGSD: Tensor
    mask: Tensor | None
    scaling: float
    dropout: float = 0.0
    softcap: float | None = None
    sinks_H: Tensor | None = None

    @property
    def groups(self) -> int:
        """Query heads per key/value head."""
        return self.query_BHTD.shape[1] // self.key_BGSD.shape[1]


@dataclass(frozen=True)
class MemoryPart:
    """The memory half of the attention.

    Attributes:
        kv: keys and values [B, G, M, D]. padding_BM: True = no token. bias: b_h, a number or [H]. chunk_tokens: C.
        relevance_BM: r_m, float32; None is zero.
    """

    kv: LayerMemory
    padding_BM: Tensor | None
    bias: Tensor | float
    chunk_tokens: int
    relevance_BM: Tensor | None = None

    @property
    def biased(self) -> bool:
        """Whether the bias changes anything (a learned bias always may)."""
        return isinstance(self.bias, Tensor) or self.bias != 0.0

    @property
    def even(self) -> bool:
        """Whether nothing at all is added to the logits."""
        return self.padding_BM is None and self.relevance_BM is None and not self.biased

    def hidden(self, dtype: torch.dtype) -> Tensor | None:
        """Return relevance and padding [B, M] as what is added to logits; None when they change nothing."""
        if self.relevance_BM is None:
            return None if self.padding_BM is None else _as_additive(~self.padding_BM, dtype)
        added = self.relevance_BM.to(dtype)
        return added if self.padding_BM is None else added.masked_fill(self.padding_BM, -math.inf)


def eager(local: LocalPart, memory: MemoryPart | None) -> tuple[Tensor, Tensor]:
    """Return out [B, H, T, D] and weights [B, H, T, M + S], straight from the formula."""
    logits = _logits(local.query_BHTD, local.key_BGSD, local) + _additive(local, torch.float32)
    values = local.value_BGSD
    if memory is not None:
        memory_logits = _logits(local.query_BHTD, memory.kv.keys_BGMD, local) + _memory_mask(memory, torch.float32)
        logits = torch.cat([memory_logits, logits], dim=-1)
        values = torch.cat([memory.kv.values_BGMD.to(values.dtype), values], dim=2)
    if local.sinks_H is not None:
        sinks = local.sinks_H.float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        weights = torch.cat([logits, sinks], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = logits.softmax(dim=-1)
    # A row that sees nothing (left padding) is all -inf, and its softmax is not a number; its output is never read.
    weights = weights.nan_to_num(0.0)
    dropped = functional.dropout(weights, p=local.dropout, training=local.dropout > 0)
    out = torch.matmul(dropped.to(values.dtype), values.repeat_interleave(local.groups, dim=1))
    return out, weights


def fused(local: LocalPart, memory: MemoryPart) -> Tensor:
    """Return out [B, H, T, D] by one concatenated call of the fused kernel; gradients flow to all of it."""
    query, dtype = local.query_BHTD, local.query_BHTD.dtype
    key = torch.cat([memory.kv.keys_BGMD.to(dtype), local.key_BGSD], dim=2)
    value = torch.cat([memory.kv.values_BGMD.to(dtype), local.value_BGSD], dim=2)
    tokens, plain = query.shape[2], memory.even and local.mask is None
    mask: Tensor | None = None
    if not (plain and tokens == 1):
        mask = _joint_mask(local, memory, dtype, square=plain)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=local.dropout, scale=local.scaling, enable_gqa=local.groups > 1
    )


def merged(local: LocalPart, memory: MemoryPart, per_chunk: bool = False) -> tuple[Tensor, Tensor | None]:
    """Return out [B, H, T, D] and, if ``per_chunk``, the attention mass of every chunk [B, H, T, N] float32.

    Two softmaxes over disjoint keys with outputs o_i and log-sum-exps l_i join to sum_i o_i exp(l_i - l), with
    l = logsumexp(l_i) (Milakov and Gimelshein, arXiv 1805.02867): exact, and a bias on all memory logits of a head
    is an addition to its l. exp(l_i - l) is the share of attention that fell on part i.
    """
    local_out, local_lse = _flash(
        local.query_BHTD, local.key_BGSD, local.value_BGSD, _local_mask(local), local.scaling, _square(local)
    )
    bias = memory.bias.float().view(1, -1, 1) if isinstance(memory.bias, Tensor) else memory.bias
    out, lse = (_chunk_rows if per_chunk else _one_row)(local, memory)  # [R, B, H, T, D], [R, B, H, T]
    lses = torch.cat([lse + bias, local_lse[None]])
    # A query that sees nothing at all (left padding, no chunk in its row) has no softmax; its output is never read,
    # but as not-a-number it would reach other rows through keys that are masked by multiplying with zero.
    weights = lses.softmax(dim=0).nan_to_num(0.0)
    joined = (weights[:-1, ..., None] * out).sum(dim=0) + weights[-1, ..., None] * local_out
    mass = weights[:-1].permute(1, 2, 3, 0) if per_chunk else None
    return joined.to(local.query_BHTD.dtype), mass


def single(local: LocalPart, memory: MemoryPart) -> tuple[Tensor, Tensor]:
    """Return out [B, H, 1, D] for one query token, and its weights [B, G, R, M + S] float32, R query heads each of G.

    One row of weights a head is so little that products and one softmax over it beat two calls of a kernel and the
    arithmetic to join them, and attention mass is a sum over the weights. Inference only.
    """
    batch, heads, _, size = local.query_BHTD.shape
    kv_heads, kept = local.key_BGSD.shape[1], memory.kv.keys_BGMD.shape[2]
    dtype = local.query_BHTD.dtype
    query_BGRD = local.query_BHTD.reshape(batch, kv_heads, heads // kv_heads, size)
    keys, values = memory.kv.keys_BGMD.to(dtype), memory.kv.values_BGMD.to(dtype)
    far, near = query_BGRD @ keys.transpose(2, 3), query_BGRD @ local.key_BGSD.transpose(2, 3)
    logits_BGRK = torch.cat([far, near], dim=-1).float().mul_(local.scaling)
    if memory.biased:
        bias = memory.bias
        logits_BGRK[..., :kept] += bias.float().view(1, kv_heads, -1, 1) if isinstance(bias, Tensor) else bias
    if (hidden_BM := memory.hidden(torch.float32)) is not None:
        logits_BGRK[..., :kept] += hidden_BM[:, None, None]
    if local.mask is not None:
        mask = _additive(local, torch.float32)  # [B or 1, 1 or H, 1, S]
        logits_BGRK[..., kept:] += mask.view(len(mask), kv_heads, -1, mask.shape[-1]) if mask.shape[1] > 1 else mask
    weights = logits_BGRK.softmax(dim=-1)
    if local.mask is not None:
        weights = weights.nan_to_num(0.0)  # a row that sees nothing, as in eager
    narrow = weights.to(dtype)
    out = narrow[..., :kept] @ values + narrow[..., kept:] @ local.value_BGSD
    return out.reshape(batch, heads, 1, -1), weights


def chunk_mass(weights_BHTK: Tensor, chunk_tokens: int, chunks: int) -> Tensor:
    """Return [B, H, T, N]: eager weights [B, H, T, M + S] summed over each chunk's tokens."""
    memory = weights_BHTK[..., : chunks * chunk_tokens]
    return memory.unflatten(-1, (chunks, chunk_tokens)).sum(dim=-1)


def evidence_share(local: LocalPart, memory: MemoryPart, focus: EvidenceFocus) -> Tensor:
    """Return what :class:`EvidenceFocus` asks of one layer, [B, P] float32; differentiable in the queries."""
    rows = torch.arange(len(local.query_BHTD), device=local.query_BHTD.device)[:, None]

    def asked(states_BXTY: Tensor) -> Tensor:
        return states_BXTY.expand(len(rows), -1, -1, -1).transpose(1, 2)[rows, focus.places_BP].transpose(1, 2)

    query_BHPD = asked(local.query_BHTD)
    far = _grouped_logits(query_BHPD, memory.kv.keys_BGMD, local)
    ours = far + _memory_mask(memory, torch.float32)
    with torch.no_grad():
        mine = _grouped_logits(query_BHPD, local.key_BGSD, local) + asked(_additive(local, torch.float32))
        mass_BHP = (ours.logsumexp(dim=-1) - mine.logsumexp(dim=-1)).sigmoid()
    counted = ours.masked_fill(~focus.counted_BM[:, None, None], -math.inf)
    found = counted.masked_fill(~focus.evidence_BM[:, None, None], -math.inf)
    share_BHP = (found.logsumexp(dim=-1) - counted.logsumexp(dim=-1)).exp()
    return (mass_BHP * share_BHP).sum(dim=1) / mass_BHP.sum(dim=1)


def _grouped_logits(query_BHPD: Tensor, key_BGSD: Tensor, local: LocalPart) -> Tensor:
    """Return q k^T * s [B, H, P, S] in float32, without a copy of the keys for each query head."""
    query = query_BHPD.unflatten(1, (-1, local.groups)).flatten(2, 3)
    logits = torch.matmul(query, key_BGSD.to(query.dtype).transpose(2, 3)).float() * local.scaling
    return logits.unflatten(2, (local.groups, -1)).flatten(1, 2)


def _one_row(local: LocalPart, memory: MemoryPart) -> tuple[Tensor, Tensor]:
    mask = memory.hidden(local.query_BHTD.dtype)
    if mask is not None:
        mask = mask[:, None, None].expand(-1, -1, local.query_BHTD.shape[2], -1)
    out, lse = _flash(local.query_BHTD, memory.kv.keys_BGMD, memory.kv.values_BGMD, mask, local.scaling, causal=False)
    return out[None], lse[None]


def _chunk_rows(local: LocalPart, memory: MemoryPart) -> tuple[Tensor, Tensor]:
    """Attend to every chunk in a row of its own: out [N, B, H, T, D], lse [N, B, H, T]."""
    size = memory.chunk_tokens
    batch, heads, tokens, _ = local.query_BHTD.shape
    chunks = memory.kv.keys_BGMD.shape[2] // size

    def rows(states_BGMD: Tensor) -> Tensor:
        split = states_BGMD.unflatten(2, (chunks, size)).permute(2, 0, 1, 3, 4)
        return split.flatten(0, 1) if batch > 1 else split[:, 0]  # a view for one row, a copy for several

    query = local.query_BHTD
    query = query.expand(chunks, -1, -1, -1) if batch == 1 else query.repeat(chunks, 1, 1, 1)
    mask = memory.hidden(query.dtype)
    if mask is not None:
        mask = mask.unflatten(1, (chunks, size)).transpose(0, 1).flatten(0, 1)  # [N * B, C]
        mask = mask[:, None, None].expand(-1, -1, tokens, -1)
    out, lse = _flash(query, rows(memory.kv.keys_BGMD), rows(memory.kv.values_BGMD), mask, local.scaling, causal=False)
    return out.view(chunks, batch, heads, tokens, -1), lse.view(chunks, batch, heads, tokens)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Return out [B, H, T, D] and its log-sum-exp [B, H, T] float32; no gradient."""
    key, value = key.to(query.dtype), value.to(query.dtype)
    if query.device.type == "cpu":
        # Takes grouped heads as they are; its mask must be additive and of the query's type.
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=mask, scale=scaling
        )
        if mask is not None:
            dead = (mask == -math.inf).all(dim=-1)  # [B, 1 or H, T]: a chunk slot without any token
            lse = lse.float().masked_fill(dead, -math.inf)
            out = out.masked_fill(dead[..., None], 0.0)
        return out, lse.float()
    groups = query.shape[1] // key.shape[1]
    logits = torch.matmul(query, key.repeat_interleave(groups, dim=1).transpose(2, 3)).float() * scaling
    if causal:
        mask = _lower_right(query.shape[2], key.shape[2], query.device)
    if mask is not None:
        logits = logits + (_as_additive(mask, torch.float32) if mask.dtype == torch.bool else mask.float())
    lse = logits.logsumexp(dim=-1)
    weights = (logits - lse[..., None]).exp().nan_to_num(0.0)
    return torch.matmul(weights.to(value.dtype), value.repeat_interleave(groups, dim=1)), lse


def _logits(query: Tensor, key: Tensor, local: LocalPart) -> Tensor:
    keys = key.to(query.dtype).repeat_interleave(local.groups, dim=1)
    logits = torch.matmul(query, keys.transpose(2, 3)).float() * local.scaling
    return logits if local.softcap is None else local.softcap * torch.tanh(logits / local.softcap)


def _square(local: LocalPart) -> bool:
    """Whether the kernel's own causal flag (top-left aligned) is right for the local part."""
    tokens = local.query_BHTD.shape[2]
    return local.mask is None and tokens > 1 and tokens == local.key_BGSD.shape[2]


def _local_mask(local: LocalPart) -> Tensor | None:
    """Return what the local call needs beside the causal flag: None, or additive [B, 1 or H, T, S]."""
    if local.mask is None and (_square(local) or local.query_BHTD.shape[2] == 1):
        return None
    return _additive(local, local.query_BHTD.dtype)


def _additive(local: LocalPart, dtype: torch.dtype) -> Tensor:
    if local.mask is None:
        visible = _lower_right(local.query_BHTD.shape[2], local.key_BGSD.shape[2], local.query_BHTD.device)
        return _as_additive(visible, dtype)
    mask = local.mask[..., : local.key_BGSD.shape[2]]
    return _as_additive(mask, dtype) if mask.dtype == torch.bool else mask.to(dtype)


def _memory_mask(memory: MemoryPart, dtype: torch.dtype) -> Tensor:
    """Return bias, relevance and padding, additive: [B or 1, H or 1, 1, M or 1]."""
    if isinstance(memory.bias, Tensor):
        bias = memory.bias.to(dtype).view(1, -1, 1, 1)
    else:
        bias = torch.full((1, 1, 1, 1), memory.bias, dtype=dtype, device=memory.kv.keys_BGMD.device)
    hidden_BM = memory.hidden(dtype)
    return bias if hidden_BM is None else bias + hidden_BM[:, None, None]


def _joint_mask(local: LocalPart, memory: MemoryPart, dtype: torch.dtype, square: bool) -> Tensor:
    tokens, kept = local.query_BHTD.shape[2], memory.kv.keys_BGMD.shape[2]
    if square:
        # [memory ; cached local ; local] with all memory visible is exactly the bottom-right causal mask.
        return _lower_right(tokens, kept + local.key_BGSD.shape[2], local.query_BHTD.device)[0]
    near = _additive(local, dtype)
    far = _memory_mask(memory, dtype)
    batch, heads = max(near.shape[0], far.shape[0]), max(near.shape[1], far.shape[1])
    return torch.cat([far.expand(batch, heads, tokens, kept), near.expand(batch, heads, -1, -1)], dim=-1)


def _lower_right(tokens: int, keys: int, device: torch.device) -> Tensor:
    """Return bool [1, 1, T, S], True where query t may see key s: s <= t + S - T."""
    return torch.ones(1, 1, tokens, keys, dtype=torch.bool, device=device).tril(diagonal=keys - tokens)


def _as_additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, -math.inf)
