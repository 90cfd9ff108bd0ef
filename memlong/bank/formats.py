"""How a slot keeps its numbers: one class a format, one registry line.

Shapes: N chunks, S stored layers, G key/value heads, C chunk tokens, T <= C tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from memlong.bank.quantise import dequantise, dequantise_nibbles, quantise, quantise_nibbles
from memlong.errors import BankError, unknown_name

Shape = tuple[int, ...]
SCALE_DTYPES: dict[str, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}


class StoreFormat(Protocol):
    """What one slot holds, how it is written and how it is read.

    ``wide``: the type that a gather gives when none is asked for.
    """

    wide: torch.dtype

    def tensors(self, shape_SGCD: Shape) -> dict[str, tuple[Shape, torch.dtype]]:
        """Return shape and type of each tensor of one slot, by name."""

    def write(self, slot: Mapping[str, Tensor], keys_SGTD: Tensor, values_SGTD: Tensor) -> None:
        """Fill the first T positions of a slot's tensors; the rest is zero already."""

    def read(self, picked: Mapping[str, Tensor], out_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return keys and values [S, N, G, C, D] of tensors whose first axis is the chunk."""


class Plain:
    """Numbers of one floating-point type, as they are."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.wide = dtype

    def tensors(self, shape_SGCD: Shape) -> dict[str, tuple[Shape, torch.dtype]]:
        """Return one tensor, keys and values side by side."""
        return {"kv": (_paired(shape_SGCD), self.wide)}

    def write(self, slot: Mapping[str, Tensor], keys_SGTD: Tensor, values_SGTD: Tensor) -> None:
        """Round to the type."""
        for part, states in enumerate((keys_SGTD, values_SGTD)):
            slot["kv"][:, part, :, : states.shape[2]] = states

    def read(self, picked: Mapping[str, Tensor], out_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Convert to the type asked for."""
        return _unpaired(picked["kv"].to(out_dtype))


class Int8:
    """Eight bits a number, with one scale for each token of each head."""

    wide = torch.float32

    def __init__(self, scale_dtype: torch.dtype) -> None:
        self.scale_dtype = scale_dtype

    def tensors(self, shape_SGCD: Shape) -> dict[str, tuple[Shape, torch.dtype]]:
        """Return the numbers, keys and values side by side, and their scales."""
        paired = _paired(shape_SGCD)
        return {"kv": (paired, torch.int8), "scale": (paired[:-1], self.scale_dtype)}

    def write(self, slot: Mapping[str, Tensor], keys_SGTD: Tensor, values_SGTD: Tensor) -> None:
        """Quantise token by token."""
        for part, states in enumerate((keys_SGTD, values_SGTD)):
            tokens = states.shape[2]
            slot["kv"][:, part, :, :tokens], slot["scale"][:, part, :, :tokens] = quantise(states, self.scale_dtype)

    def read(self, picked: Mapping[str, Tensor], out_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Widen all at once."""
        return _unpaired(dequantise(picked["kv"], picked["scale"], out_dtype))


class KeysInt8ValuesInt4:
    """Keys in eight bits, values in four: values are averaged over many tokens and forgive more than keys do.

    Each token's values in each head have a scale and a lowest number.
    """

    wide = torch.float32

    def __init__(self, scale_dtype: torch.dtype) -> None:
        self.scale_dtype = scale_dtype

    def tensors(self, shape_SGCD: Shape) -> dict[str, tuple[Shape, torch.dtype]]:
        """Return keys, values (two to a byte), and a token's scale of keys, scale of values and lowest value.

        Raises:
            BankError: for an odd head size.
        """
        layers, heads, tokens, size = shape_SGCD
        if size % 2:
            raise BankError(f"Heads of size {size}", "An even size: k8v4 packs two values into a byte", "Take int8")
        return {
            "keys": (shape_SGCD, torch.int8),
            "values": ((layers, heads, tokens, size // 2), torch.uint8),
            "scale": ((layers, 3, heads, tokens), self.scale_dtype),
        }

    def write(self, slot: Mapping[str, Tensor], keys_SGTD: Tensor, values_SGTD: Tensor) -> None:
        """Quantise token by token."""
        tokens, scale_S3GC = keys_SGTD.shape[2], slot["scale"]
        slot["keys"][:, :, :tokens], scale_S3GC[:, 0, :, :tokens] = quantise(keys_SGTD, self.scale_dtype)
        packed, scale_S3GC[:, 1, :, :tokens], scale_S3GC[:, 2, :, :tokens] = quantise_nibbles(
            values_SGTD, self.scale_dtype
        )
        slot["values"][:, :, :tokens] = packed

    def read(self, picked: Mapping[str, Tensor], out_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Widen keys, unpack values."""
        scale, value_scale, lowest = picked["scale"].unbind(2)
        keys_NSGCD = dequantise(picked["keys"], scale, out_dtype)
        values_NSGCD = dequantise_nibbles(picked["values"], value_scale, lowest, out_dtype)
        return keys_NSGCD.transpose(0, 1), values_NSGCD.transpose(0, 1)


PLAIN: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
QUANTISED: dict[str, type[Int8] | type[KeysInt8ValuesInt4]] = {"int8": Int8, "k8v4": KeysInt8ValuesInt4}
FORMATS: tuple[str, ...] = (*PLAIN, *QUANTISED)


def make_format(name: str, scale_dtype: str = "float16") -> StoreFormat:
    """Return a format by name.

    Args:
        name: one of :data:`FORMATS`. scale_dtype: type of the scales, where there are any.

    Raises:
        BankError: for an unknown name.
    """
    if scale_dtype not in SCALE_DTYPES:
        raise unknown_name("scale type", scale_dtype, SCALE_DTYPES, BankError)
    if name not in FORMATS:
        raise unknown_name("store_dtype", name, FORMATS, BankError)
    return Plain(PLAIN[name]) if name in PLAIN else QUANTISED[name](SCALE_DTYPES[scale_dtype])


def _paired(shape_SGCD: Shape) -> Shape:
    layers, *rest = shape_SGCD
    return (layers, 2, *rest)


def _unpaired(kv_NS2GCD: Tensor) -> tuple[Tensor, Tensor]:
    keys, values = kv_NS2GCD.permute(2, 1, 0, 3, 4, 5).unbind(0)
    return keys, values
