"""Tiny random models of many architectures, and what a test must know of each to compute the truth.

Every family has grouped-query heads where its architecture allows them, and sliding windows shorter than the
texts of the tests where it has sliding windows.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

VOCAB, WINDOW = 64, 5
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_HEAD = {"head_dim": 8}
_MIXED = {"sliding_window": WINDOW, "mixed": True}
_GPT2 = {"hidden_size": None, "n_embd": 32, "n_head": 4, "n_positions": 128, "n_inner": 48, "num_key_value_heads": None}

# Family -> name of its classes, and settings beside the common sizes. ``mixed`` alternates sliding and full layers.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-multi-head": ("Llama", {"num_key_value_heads": 4}),
    "llama-yarn": ("Llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}),
    "mistral": ("Mistral", {"sliding_window": WINDOW, **_HEAD}),
    "qwen2": ("Qwen2", {}),
    "qwen2-sliding": ("Qwen2", {"use_sliding_window": True, **_MIXED}),
    "qwen3": ("Qwen3", _HEAD),
    "phi3": ("Phi3", {"partial_rotary_factor": 0.5}),
    "phi3-sliding": ("Phi3", {"sliding_window": WINDOW}),
    "gemma": ("Gemma", _HEAD),
    "gemma2": ("Gemma2", {**_HEAD, **_MIXED, "attn_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3:text", {**_HEAD, **_MIXED, "query_pre_attn_scalar": 8}),
    "gpt_neox": ("GPTNeoX", {"rotary_pct": 0.5, "num_key_value_heads": None}),
    "olmo2": ("Olmo2", {}),
    "cohere": ("Cohere", {"logit_scale": 1.0}),
    "cohere2": ("Cohere2", {"logit_scale": 1.0, **_HEAD, **_MIXED}),
    "glm": ("Glm", {**_HEAD, "partial_rotary_factor": 0.5}),
    "gpt2": ("GPT2", _GPT2),
    "gpt2-scaled": ("GPT2", {**_GPT2, "scale_attn_by_inverse_layer_idx": True}),
    "opt": ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2, "num_key_value_heads": None}),
    "granite": ("Granite", {"attention_multiplier": 0.3, "residual_multiplier": 0.7}),
    "stablelm": ("StableLm", {"partial_rotary_factor": 0.5}),
    "nemotron": ("Nemotron", {}),
    "starcoder2": ("Starcoder2", {"sliding_window": WINDOW}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0, 1]}),
    "gpt_oss": ("GptOss", {**_HEAD, **_MIXED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4": ("Llama4:text", {
        **_HEAD, "num_local_experts": 2, "num_experts_per_tok": 1, "attention_chunk_size": 64,
        "intermediate_size_mlp": 48, "no_rope_layers": [1, 0, 1], "attn_temperature_tuning": False,
    }),
}  # fmt: skip


def layer_types(name: str, layers: int) -> list[str]:
    """Return for each layer whether its attention slides."""
    settings = FAMILIES[name][1]
    if settings.get("mixed"):
        return [("sliding_attention", "full_attention")[layer % 2] for layer in range(layers)]
    return ["sliding_attention" if settings.get("sliding_window") else "full_attention"] * layers


@cache
def build(name: str, layers: int = 3) -> PreTrainedModel:
    """Return a random float32 model in evaluation mode. It is shared between tests, which must leave it as it is."""
    stem, settings = FAMILIES[name]
    values = dict(_SIZES) | settings
    if values.pop("mixed", False):
        values["layer_types"] = layer_types(name, layers)
    if "no_rope_layers" in values:
        values["no_rope_layers"] = values["no_rope_layers"][:layers]
    values["n_layer" if stem == "GPT2" else "num_hidden_layers"] = layers
    stem, _, text = stem.partition(":")
    config = getattr(transformers, f"{stem}TextConfig" if text else f"{stem}Config")(
        **{key: value for key, value in values.items() if value is not None}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            # Norms of ones and biases of zeros would hide a step left out.
            if parameter.ndim == 1:
                parameter.data += 0.2 * torch.randn_like(parameter)
    return model.requires_grad_(False)


def eager_logits(model: PreTrainedModel, ids_BT: Tensor, **kwargs: Any) -> Tensor:
    """Return the logits of the model's own eager attention; its usual implementation is back afterwards."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            return model(input_ids=ids_BT, **{"use_cache": False, **kwargs}).logits
    finally:
        model.set_attn_implementation(usual)


def random_ids(rows: int, tokens: int, seed: int = 0) -> Tensor:
    """Return ids [rows, tokens] without the special ones."""
    return torch.randint(3, VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def left_padded(ids_BT: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Return ids and mask [B, T]: row b keeps its last ``lengths[b]`` tokens, 0 before them."""
    tokens = ids_BT.shape[1]
    mask = (torch.arange(tokens)[None] >= tokens - torch.tensor(lengths)[:, None]).long()
    return ids_BT * mask, mask
