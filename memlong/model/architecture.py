"""What the engine must know of an architecture, found by looking at the model, not by its name.

Supported is whatever passes its attention through transformers' attention interface and either hands its attention
modules ``position_embeddings`` (rotary) or adds learned positions to the embeddings. Everything else is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from memlong.errors import ModelError

# Learned absolute positions are added to the embeddings, so keys are stored as they are.
_LEARNED_POSITIONS = frozenset({"gpt2", "opt", "biogpt", "gpt_bigcode", "xglm"})


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
            "Models whose attention can be replaced (Llama, Mistral, Qwen, Phi-3, Gemma, GPT-NeoX, OLMo, Cohere, GLM, GPT-2 ...)",
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
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelSpec(
        layers=layers,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=head_dim,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        rotary=config.model_type not in _LEARNED_POSITIONS,
        attention=attention,
        rotary_scale=_rotary_scale(base),
        max_positions=getattr(config, "max_position_embeddings", None),
    )


def base_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside an adapter wrapper, or the model itself."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(inner, PreTrainedModel):
        raise ModelError(
            f"{type(model).__name__} is not a transformers model", "A transformers causal language model",
            "Load it with AutoModelForCausalLM",
        )
    return inner


def position_zero(embeddings: tuple[Tensor, Tensor], scale: float | None) -> tuple[Tensor, Tensor]:
    """Return rotary cos and sin of position 0, in the shape and type of ``embeddings``.

    cos(0) is the rotary scale and sin(0) is 0, whatever the layout of pairs. With no known scale it is measured:
    cos^2 + sin^2 is its square at any position.
    """
    cos, sin = embeddings
    if scale is not None:
        return torch.full_like(cos, scale), torch.zeros_like(sin)
    return (cos.float().square() + sin.float().square()).sqrt().to(cos.dtype), torch.zeros_like(sin)


def refuse_missing_rotary(module: nn.Module) -> ModelError:
    """Return the error for a rotary model whose attention is not handed ``position_embeddings``."""
    return ModelError(
        f"{type(module).__name__} applies positions inside its attention",
        "Rotary models that pass position_embeddings, or learned absolute positions",
        "Choose another architecture; its keys cannot be had at position 0",
    )


def _attention_modules(model: nn.Module) -> dict[int, nn.Module]:
    found: dict[int, nn.Module] = {}
    for module in model.modules():
        layer: Any = getattr(module, "layer_idx", None)
        if isinstance(layer, int) and "Attention" in type(module).__name__ and not getattr(module, "is_cross_attention", False):
            # GPT-2 keeps an attention inside a block that also carries the index; the innermost one calls the interface.
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
