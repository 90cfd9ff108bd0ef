"""What the engine must know of an architecture, found by looking at the model, not by its name.

Supported is whatever passes its attention through transformers' attention interface and either hands its attention
modules ``position_embeddings`` (rotary) or adds learned positions to the embeddings. Everything else is refused.
"""

from __future__ import annotations

import inspect as introspection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from memlong.errors import ConfigError, ModelError

# Learned absolute positions are added to the embeddings, so keys are stored as they are.
_LEARNED_POSITIONS = frozenset({"gpt2", "opt", "biogpt", "gpt_bigcode"})
# Their attention does more to a key than the attention interface shows, so retrieved keys would be treated otherwise.
_HIDDEN_KEY_TERMS = {"doge": "a mask computed from the values of its own window"}


@dataclass(frozen=True)
class ModelSpec:
    """Sizes of a decoder.

    Attributes:
        layers: decoder layers. heads: query heads. kv_heads: key/value heads. head_dim: D.
        hidden_size: width of the residual stream. vocab_size: logits per token.
        rotary: whether keys are rotated by position (local tokens are then numbered from 1).
        attention: layer -> its attention module.
        rotary_scale: factor of the rotary cos and sin at position 0; None when it must be measured.
        max_positions: positions the model was trained for; None when it has no limit.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden_size: int
    vocab_size: int
    rotary: bool
    attention: dict[int, nn.Module]
    rotary_scale: float | None
    max_positions: int | None


def inspect(model: nn.Module) -> ModelSpec:
    """Return the sizes and attention modules of ``model``.

    Raises:
        ModelError: for encoder-decoders and architectures that cannot be given a memory without a change of meaning.
    """
    base = base_model(model)
    config = base.config.get_text_config(decoder=True)
    name = type(base).__name__
    if getattr(base.config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder", "Decoder-only models", "Choose a causal language model")
    if not base._can_set_attn_implementation():
        raise ModelError(
            f"{name} does not use transformers' attention interface",
            "Models whose attention can be replaced (Llama, Mistral, Qwen, Phi-3, Gemma, GPT-NeoX, OLMo, GPT-2 ...)",
            "Choose one of these families",
        )
    attention = _attention_modules(base)
    layers = config.num_hidden_layers
    if sorted(attention) != list(range(layers)):
        raise ModelError(
            f"{name} has {layers} layers, and attention modules for {len(attention)} of them",
            "One self-attention module per layer",
            "Choose a model without recurrent or shared attention layers",
        )
    _refuse_unusual_keys(name, config, attention)
    heads = _same_everywhere(name, config, "num_attention_heads") or 1
    head_dim = _same_everywhere(name, config, "head_dim") or config.hidden_size // heads
    kv_heads = _same_everywhere(name, config, "num_key_value_heads")
    return ModelSpec(
        layers=layers,
        heads=heads,
        kv_heads=kv_heads or heads,
        head_dim=head_dim,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        rotary=_is_rotary(config.model_type, attention[0]),
        attention=attention,
        rotary_scale=_rotary_scale(base),
        max_positions=getattr(config, "max_position_embeddings", None),
    )


def base_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside an adapter wrapper, or the model itself."""
    unwrap: Any = getattr(model, "get_base_model", None)
    inner = unwrap() if unwrap is not None else model
    if not isinstance(inner, PreTrainedModel):
        raise ModelError(
            f"{type(model).__name__} is not a transformers model",
            "A transformers causal language model",
            "Load it with AutoModelForCausalLM",
        )
    return inner


def position_zero(embeddings: Any, scale: float | None) -> Any:
    """Return the rotary embeddings of position 0, in the shape and type of ``embeddings``.

    cos(0) is the rotary scale and sin(0) is 0, whatever the layout of pairs. With no known scale it is measured:
    cos^2 + sin^2 is its square at any position. Embeddings in one complex tensor (Llama 4) become their magnitude.

    Raises:
        ModelError: for embeddings of another form.
    """
    if isinstance(embeddings, Tensor) and embeddings.is_complex():
        return embeddings.abs().to(embeddings.dtype)
    if not (isinstance(embeddings, tuple | list) and len(embeddings) == 2):
        raise ModelError(
            f"Position embeddings of type {type(embeddings).__name__}",
            "A pair (cos, sin), or one complex tensor",
            "Choose another architecture; its keys cannot be had at position 0",
        )
    cos, sin = embeddings
    if scale is not None:
        return torch.full_like(cos, scale), torch.zeros_like(sin)
    return (cos.float().square() + sin.float().square()).sqrt().to(cos.dtype), torch.zeros_like(sin)


def refuse_long_windows(spec: ModelSpec, window_tokens: int) -> None:
    """Refuse windows for which a model with learned positions has no positions.

    Raises:
        ConfigError: naming the longest window.
    """
    if not spec.rotary and spec.max_positions and window_tokens > spec.max_positions:
        raise ConfigError(
            f"window_tokens={window_tokens} on a model with {spec.max_positions} learned positions",
            "A position for every token of a window",
            f"Set window_tokens and chunk_tokens to {spec.max_positions} or less",
        )


def refuse_positions(spec: ModelSpec, tokens: int, attention_mask: Tensor | None) -> None:
    """Refuse a local context for which a model with learned positions has no positions; padding takes none.

    Raises:
        ModelError: naming both lengths.
    """
    if spec.rotary or spec.max_positions is None or tokens <= spec.max_positions:
        return
    longest = tokens if attention_mask is None else int(attention_mask.sum(dim=1).max())
    if longest > spec.max_positions:
        raise ModelError(
            f"A local context of {longest} tokens",
            f"This model has {spec.max_positions} learned positions",
            "Give fewer tokens at once, or keep earlier ones in memory",
        )


def refuse_missing_rotary(module: nn.Module) -> ModelError:
    """Return the error for a rotary model whose attention is not handed ``position_embeddings``."""
    return ModelError(
        f"{type(module).__name__} applies positions inside its attention",
        "Rotary models that pass position_embeddings, or learned absolute positions",
        "Choose another architecture; its keys cannot be had at position 0",
    )


def _is_rotary(model_type: str, attention: nn.Module) -> bool:
    if "position_embeddings" in introspection.signature(type(attention).forward).parameters:
        return True
    if model_type in _LEARNED_POSITIONS:
        return False
    raise refuse_missing_rotary(attention)


def _refuse_unusual_keys(name: str, config: Any, attention: dict[int, nn.Module]) -> None:
    reason = _HIDDEN_KEY_TERMS.get(config.model_type)
    if getattr(config, "kv_lora_rank", None):
        reason = "latent attention, whose keys and values are not of one size"
    for layer, module in attention.items():
        if getattr(module, "is_kv_shared_layer", False):
            reason = f"no keys of its own in layer {layer}"
        elif not _uses_interface(type(module)):
            reason = f"linear or other unusual attention in layer {layer}"
    if reason:
        raise ModelError(
            f"{name} has {reason}",
            "Softmax attention in every layer, over keys and values that each layer makes itself",
            "Choose another architecture",
        )


def _uses_interface(attention: type[nn.Module]) -> bool:
    try:
        source = introspection.getsource(attention.forward)
    except (OSError, TypeError):
        return True  # no source to look at; reading then finds out
    return "attention_interface" in source or "ALL_ATTENTION_FUNCTIONS" in source


def _same_everywhere(name: str, config: Any, size: str) -> int | None:
    try:
        return getattr(config, size, None)
    except RuntimeError as error:  # what transformers raises for a setting that varies by layer
        raise ModelError(
            f"{name} has layers of different {size}", "The same in every layer", "Choose another architecture"
        ) from error


def _attention_modules(model: nn.Module) -> dict[int, nn.Module]:
    found: dict[int, nn.Module] = {}
    for module in model.modules():
        layer: Any = getattr(module, "layer_idx", None)
        crossed = getattr(module, "is_cross_attention", False)
        if isinstance(layer, int) and "Attention" in type(module).__name__ and not crossed:
            # Where an attention lies inside another of the same index, the innermost one calls the interface.
            found[layer] = module
    return found


def _rotary_scale(model: nn.Module) -> float | None:
    scales = {
        float(value)
        for module in model.modules()
        for name, value in vars(module).items()
        if name.endswith("attention_scaling") and isinstance(value, int | float)
    }
    return scales.pop() if len(scales) == 1 else None
