"""Number types of weights, arithmetic and bank: asked for by name, or chosen by a measured product."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from memlong.errors import ModelError, unknown_name
from memlong.hardware import fastest_dtype

DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
QUANTIZATIONS = ("8bit", "4bit")
_LONG_NAMES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_SHARE_OF_FREE_MEMORY = 0.8  # the rest is for activations and the bank


@dataclass(frozen=True)
class NumberTypes:
    """What a model is computed in.

    Attributes:
        weights: how linear layers are held: a torch type's name, "8bit" or "4bit".
        arithmetic: type of activations, keys and values, and of whatever is not quantised.
        bank: a ``store_dtype`` that loses nothing of these keys and values but float32's last digits.
        reason: why, in words for a person.
    """

    weights: str
    arithmetic: torch.dtype
    bank: str
    reason: str


def choose_types(
    dtype: str | torch.dtype,
    quantization: str | None,
    device: torch.device,
    parameters: int = 0,
) -> NumberTypes:
    """Return the number types for a model.

    Args:
        dtype: "auto" measures; or bf16, fp16, fp32 (long names and torch types too).
        quantization: None, "8bit" or "4bit".
        parameters: of the model; float32 gives way to bfloat16 where so many would not fit into memory.

    Raises:
        ModelError: for an unknown name, or 8-bit weights with float32 arithmetic.
    """
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise unknown_name("quantization", quantization, QUANTIZATIONS, ModelError)
    asked = named_dtype(dtype)
    if asked is not None:
        arithmetic, reason = asked, "as asked for"
    elif quantization == "8bit":
        # Its kernels take 16-bit activations; with others they convert at every product.
        arithmetic, reason = torch.bfloat16, "8-bit products take 16-bit activations"
    else:
        arithmetic, reason = fastest_dtype(device)
        if quantization is None and _too_large(parameters, arithmetic, device):
            arithmetic, reason = torch.bfloat16, "float32 weights would not fit into memory"
    if quantization == "8bit" and arithmetic == torch.float32:
        raise ModelError("8-bit weights with float32", "bf16 or fp16", "Leave the dtype at 'auto'")
    bank = "float16" if arithmetic == torch.float16 else "bfloat16"
    return NumberTypes(quantization or short(arithmetic), arithmetic, bank, reason)


def named_dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    """Return the torch type of a name; None for "auto".

    Raises:
        ModelError: for an unknown name.
    """
    name = short(dtype) if isinstance(dtype, torch.dtype) else dtype
    name = _LONG_NAMES.get(name, name)
    if name == "auto":
        return None
    if name not in DTYPES:
        raise unknown_name("dtype", name, ["auto", *DTYPES], ModelError)
    return DTYPES[name]


def short(dtype: torch.dtype) -> str:
    """Return a torch type's name without "torch."."""
    return str(dtype).removeprefix("torch.")


def _too_large(parameters: int, dtype: torch.dtype, device: torch.device) -> bool:
    if device.type != "cpu" or dtype != torch.float32:
        return False
    return 4 * parameters > _SHARE_OF_FREE_MEMORY * psutil.virtual_memory().available
