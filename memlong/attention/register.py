"""The only file that knows transformers' attention interface: registers ``memlong`` and switches a model to it.

A registered function reaches every attention module of a decoder without a copy of any model file. The mask
function of the same name must be registered too: without it the mask is silently absent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from memlong.attention import blocks, learning, retrieval
from memlong.attention.context import CaptureProbe, KVCaptured, MemoryContext, ReadCapture, Weights
from memlong.errors import ModelError
from memlong.nesting import is_inside, nested

NAME = "memlong"
_SWITCH = "_memlong_switch"

Bound = MemoryContext | ReadCapture | CaptureProbe

# Keywords that change nothing in the attention itself, or that the mask already holds.
_HARMLESS = frozenset(
    "position_ids cache_position use_cache output_attentions output_hidden_states return_dict is_causal sliding_window "
    "position_embeddings num_items_in_batch logits_to_keep output_router_logits cu_seq_lens_q cu_seq_lens_k "
    "max_length_q max_length_k token_type_ids layer_past".split()
)
_current = threading.local()


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of one module [B, H, T, D] -> ([B, T, H, D], None), with memory where the module's layer reads it.

    Raises:
        ModelError: for an architecture's extra that is not implemented; nothing is ever silently left out.
    """
    context = kwargs.pop("memory", None) or bound_memory()
    scaling, dropout = kwargs.pop("scaling", None), kwargs.pop("dropout", 0.0)
    if isinstance(context, CaptureProbe):
        context.states = (query, key, value)
        raise KVCaptured
    index = getattr(module, "layer_idx", None)
    layer = -1 if index is None else int(index)
    if isinstance(context, ReadCapture):
        query, key = context.take(layer, query, key, value)
        context = context.context(layer)
    softcap, sinks = kwargs.pop("softcap", None), kwargs.pop("s_aux", None)
    _refuse_unknown(module, kwargs)
    kv = context.layers.get(layer) if context is not None else None
    if kv is not None and not kv.keys_BGMD.shape[2]:
        kv = None  # rows without a single chunk: the kernels want one key at least
    if attention_mask is None and query.shape[2] > 1:
        # No mask, and more keys than queries: an empty static cache, whose keys after the queries are not there yet.
        key, value = key[:, :, : query.shape[2]], value[:, :, : query.shape[2]]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if kv is None and softcap is None and sinks is None:
        causal = kwargs.get("is_causal")
        if attention_mask is None and not dropout and blocks.serves(query, key, value):
            return blocks.causal(query, key, value, scale), None
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=causal
        )
    local = retrieval.LocalPart(query, key, value, attention_mask, scale, dropout, softcap, sinks)
    if kv is None or context is None:
        out, _ = retrieval.eager(local, None)
    else:
        memory = retrieval.MemoryPart(
            kv, context.padding_BM, context.layer_bias(layer), context.chunk_tokens, context.relevance_BM
        )
        out = _with_memory(local, memory, context, layer)
    return out.transpose(1, 2).contiguous(), None


def _with_memory(
    local: retrieval.LocalPart, memory: retrieval.MemoryPart, context: MemoryContext, layer: int
) -> Tensor:
    observer = context.observer
    if local.softcap is not None or local.sinks_H is not None:
        out, weights = retrieval.eager(local, memory)
        if observer is not None:
            chunks = memory.kv.keys_BGMD.shape[2] // memory.chunk_tokens
            share = retrieval.chunk_mass(weights, memory.chunk_tokens, chunks)
            observer.record(layer, share)
        return out
    states = (local.query_BHTD, local.key_BGSD, local.value_BGSD, *memory.kv)
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in states)
    if differentiable and context.focus is not None and layer in context.focus.layers:
        context.focus.shares[layer] = retrieval.evidence_share(local, memory, context.focus)
    through_fused = differentiable or local.dropout > 0
    differentiated = learning.by_row if learning.applies(local, memory) else retrieval.fused
    if observer is None and (through_fused or local.query_BHTD.device.type != "cpu"):
        return differentiated(local, memory)
    # The log-sum-exp that merging needs has no gradient, so someone who looks while training pays for both.
    with torch.no_grad() if through_fused else nullcontext():
        if local.query_BHTD.shape[2] == 1:
            merged, weights_BGRK = retrieval.single(local, memory)
            kept = memory.kv.keys_BGMD.shape[2]
            seen: Tensor | Weights | None = Weights(weights_BGRK, kept, memory.chunk_tokens)
        else:
            merged, seen = retrieval.merged(local, memory, per_chunk=observer is not None)
    if observer is not None and seen is not None:
        observer.record(layer, seen)
    return differentiated(local, memory) if through_fused else merged


def _refuse_unknown(module: nn.Module, extras: dict[str, Any]) -> None:
    for name, value in extras.items():
        if value is not None and name not in _HARMLESS:
            raise ModelError(
                f"{type(module).__name__} passes {name!r} to its attention",
                "Masks, sliding windows, soft-capping and attention sinks are implemented",
                "Use a model without it; leaving it out would give wrong answers silently",
            )
    if extras.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        raise ModelError(
            f"{type(module).__name__} is not causal", "Decoder-only models", "Use a decoder-only language model"
        )


def register() -> None:
    """Make ``memlong`` known to transformers; repeated calls change nothing."""
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def bound_memory() -> Bound | None:
    """Return what :func:`bound` was given on this thread; None outside of it."""
    return getattr(_current, "memory", None)


@contextmanager
def bound(memory: Bound | None) -> Iterator[None]:
    """Let every attention module that runs on this thread meanwhile see ``memory``.

    A keyword of the model's call would do for most families, but some (StableLM, Nemotron) do not hand keywords on
    from their decoder layer to their attention, and memory would be missing silently.
    """
    before = bound_memory()
    _current.memory = memory
    try:
        yield
    finally:
        _current.memory = before


@contextmanager
def switched(model: nn.Module) -> Iterator[None]:
    """Run ``model`` with this attention; its own is back afterwards, whatever happens inside.

    Re-entrant and safe for threads that share a model: the first one in switches, the last one out restores.
    """
    with nested(model, _SWITCH, lambda: _to_ours(model)):
        yield


def is_switched(model: nn.Module) -> bool:
    """Whether some thread is inside :func:`switched` with this model."""
    return is_inside(model, _SWITCH)


def _to_ours(model: nn.Module) -> Callable[[], None]:
    """Name our attention in every configuration of ``model``, and return what names its own again."""
    register()
    saved = [(config, config._attn_implementation_internal) for config in _configs(model)]
    for config, _ in saved:
        config._attn_implementation_internal = NAME

    def restore() -> None:
        for config, name in saved:
            config._attn_implementation_internal = name

    return restore


def _configs(model: nn.Module) -> list[Any]:
    """Return every configuration object that an attention module of ``model`` asks for its implementation."""
    found = model.__dict__.get("_memlong_configs")
    if found is None:
        configs = (getattr(module, "config", None) for module in model.modules())
        unique = {id(config): config for config in configs if hasattr(config, "_attn_implementation_internal")}
        found = model.__dict__["_memlong_configs"] = list(unique.values())
    return found


__all__ = ["NAME", "attention_forward", "bound", "bound_memory", "is_switched", "register", "switched"]
