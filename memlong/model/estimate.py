"""What a model will need, from its configuration alone, before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from memlong.config import SHORT_CHUNK_ROOM, MemoryConfig
from memlong.hardware import resolve_device
from memlong.model.adapter import WEIGHTS as ADAPTER_WEIGHTS
from memlong.model.dtypes import choose_types
from memlong.model.layout import resolve_layout
from memlong.model.locate import locate, open_config
from memlong.model.refusals import refusals

# Bytes per weight of a linear layer, with scales: int8 keeps a float32 per row; nf4 a byte per 64 weights.
_BYTES = {"8bit": 1.01, "4bit": 0.52}


@dataclass(frozen=True)
class ModelEstimate:
    """Memory that a model takes.

    Attributes:
        parameters: tied ones counted once. weights_bytes: of all weights in the asked number type, those of the model's
            adapter included: a copy of every matrix that it adapts, or, beside quantised weights, its own.
        bank_bytes_per_token: keys and values of one token in all stored layers, for one token of a bank's capacity.
    """

    parameters: int
    weights_bytes: int
    bank_bytes_per_token: int


def estimate(
    name: str | Path = "bundled",
    quantization: str | None = None,
    config: MemoryConfig | None = None,
    dtype: str | torch.dtype = "auto",
    device: str = "auto",
    data_dir: Path | None = None,
) -> ModelEstimate:
    """Return what ``load_model`` with the same arguments would need.

    Raises:
        ModelError: when the model cannot be had. ConfigError: for layers that it does not have.
    """
    found = locate(str(name), data_dir)
    base_config = open_config(found)
    total, linear = _counts(base_config.model_type, base_config.to_json_string())
    types = choose_types(dtype, quantization, resolve_device(device), total)
    quantised = linear * _BYTES[quantization] if quantization else 0
    rest = total - linear if quantization else total
    adapter = adapter_bytes(found.adapter, quantization is None, types.arithmetic) if found.adapter else 0
    memory = config or (found.part.config if found.part else MemoryConfig(store_dtype=types.bank))
    return ModelEstimate(
        parameters=total,
        weights_bytes=round(rest * types.arithmetic.itemsize + quantised) + adapter,
        bank_bytes_per_token=_bank_bytes(base_config.get_text_config(decoder=True), memory),
    )


def adapter_bytes(folder: Path, merge: bool, dtype: torch.dtype) -> int:
    """Return what the adapter of a folder takes (see ``adapter.py``), from its file's header; 0 without a file."""
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        return 0  # loading refuses it in words
    with refusals(str(folder)), safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    if not merge:
        return 4 * sum(map(prod, shapes.values()))  # PEFT keeps them in float32
    inputs = {name.replace(".lora_A.", ".lora_B."): shape[-1] for name, shape in shapes.items() if ".lora_A." in name}
    return sum(shapes[name][0] * size for name, size in inputs.items() if name in shapes) * dtype.itemsize


def _bank_bytes(text: Any, memory: MemoryConfig) -> int:
    """Return the bytes of one token's keys and values in all stored layers, scales included."""
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    stored = len(resolve_layout(memory, text.num_hidden_layers).stored_layers)
    room = SHORT_CHUNK_ROOM if memory.whole_sentences else 1
    return ceil(room * stored * kv_heads * pair_bytes(head_dim, memory.store_dtype))


def pair_bytes(head_dim: int, store_dtype: str) -> int:
    """Return the bytes of one key and one value of a head as the bank keeps them, float16 scales included."""
    if store_dtype == "int8":
        return 2 * head_dim + 4
    if store_dtype == "k8v4":
        return head_dim + head_dim // 2 + 6  # scales of both, and the lowest value
    return int(2 * head_dim * getattr(torch, store_dtype).itemsize)


def parameter_count(base_config: Any) -> int:
    """Return the parameters of a model with this configuration, tied ones counted once."""
    return _counts(base_config.model_type, base_config.to_json_string())[0]


@lru_cache(maxsize=8)
def _counts(model_type: str, settings: str) -> tuple[int, int]:
    """Return (all parameters, those that quantisation takes) of a model that has no storage."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = json.loads(settings)
    for key in ("quantization_config", "model_type"):
        values.pop(key, None)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **values))
    output = model.get_output_embeddings()
    modules = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not output]
    return sum(p.numel() for p in model.parameters()), sum(m.weight.numel() for m in modules)
