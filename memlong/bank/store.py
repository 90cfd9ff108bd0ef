"""K-V of the stored layers, one slot a chunk, in memory that is set aside once.

Shapes: N chunks, S stored layers, G key/value heads, C chunk tokens, T <= C tokens, D head size; the axis of
length 2 holds keys and values. Memory is reserved, not touched: pages that no chunk was written to cost
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memlong.bank.formats import StoreFormat, make_format
from memlong.errors import BankError


@dataclass(frozen=True)
class KVShape:
    """Shape of one chunk's K-V.

    Attributes:
        stored_layers: S. kv_heads: G. chunk_tokens: C. head_dim: D, the same for keys and values.
    """

    stored_layers: int
    kv_heads: int
    chunk_tokens: int
    head_dim: int

    def __post_init__(self) -> None:
        if min(self.stored_layers, self.kv_heads, self.chunk_tokens, self.head_dim) < 1:
            raise BankError(f"{self}", "Every size is at least 1", "Check the model's and the memory's settings")

    def bytes_per_token(self, dtype: str = "bfloat16", scale_dtype: str = "float16") -> int:
        """Return the bytes of one token's keys and values in all stored layers, scales included."""
        tensors = make_format(dtype, scale_dtype).tensors(self.of_slot)
        return sum(math.prod(shape) * kept.itemsize for shape, kept in tensors.values()) // self.chunk_tokens

    @property
    def of_slot(self) -> tuple[int, int, int, int]:
        """S, G, C, D."""
        return self.stored_layers, self.kv_heads, self.chunk_tokens, self.head_dim


class GatheredKV(NamedTuple):
    """K-V of several chunks, in the order they were asked for; positions behind a short chunk's end are zero.

    Attributes:
        keys_SNGCD: keys. values_SNGCD: values.
    """

    keys_SNGCD: Tensor
    values_SNGCD: Tensor


class KVStore:
    """Numbered slots for K-V; knows nothing of chunks, counts or search.

    Args:
        slots: chunks that fit. shape: of one chunk's K-V.
        dtype: how numbers are kept: ``bfloat16``, ``float16``, ``float32``, ``int8`` or ``k8v4`` (see ``formats``).
        device: where the slots lie; host memory may serve a model on a GPU, only gathered chunks travel.
        scale_dtype: type of the scales of ``int8`` and ``k8v4``.

    Raises:
        BankError: for an unknown type or a size below 1.
    """

    def __init__(
        self,
        slots: int,
        shape: KVShape,
        dtype: str = "bfloat16",
        device: torch.device | str = "cpu",
        scale_dtype: str = "float16",
    ) -> None:
        if slots < 1:
            raise BankError(f"A store of {slots} slots", "At least one slot", "Raise the capacity")
        self.slots, self.shape, self.dtype, self.scale_dtype = slots, shape, dtype, scale_dtype
        self.device = torch.device(device)
        self.bytes_per_token = shape.bytes_per_token(dtype, scale_dtype)
        self._format: StoreFormat = make_format(dtype, scale_dtype)
        self._tensors = self._reserve(slots)
        self._staging: dict[str, Tensor] = {}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The memory itself, by the names of the format; the first axis is the slot."""
        return self._tensors

    def adopt(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these tensors for the slots, as they are: pages of a mapped file stay where they are.

        Raises:
            BankError: when they are not what :attr:`tensors` would be.
        """
        for name, own in self._tensors.items():
            given = tensors.get(name)
            if given is None or (given.shape, given.dtype) != (own.shape, own.dtype):
                raise BankError(
                    f"{name}: {'nothing' if given is None else f'{list(given.shape)} of {given.dtype}'}",
                    f"{list(own.shape)} of {own.dtype}",
                    "Give tensors of a store of the same shape and format",
                )
        self._tensors = {name: tensors[name] for name in self._tensors}

    @property
    def nbytes(self) -> int:
        """Bytes set aside, touched or not."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def write(self, slot: int, keys_SGTD: Tensor, values_SGTD: Tensor) -> None:
        """Fill a slot; positions from T on become zero.

        Raises:
            BankError: when the shapes do not belong to this store.
        """
        self.check(keys_SGTD, values_SGTD)
        tensors = {name: tensor[slot] for name, tensor in self._tensors.items()}
        if keys_SGTD.shape[2] < self.shape.chunk_tokens:
            for tensor in tensors.values():
                tensor.zero_()
        self._format.write(tensors, keys_SGTD.detach(), values_SGTD.detach())

    def check(self, keys_SGTD: Tensor, values_SGTD: Tensor) -> None:
        """Refuse K-V that a slot cannot hold.

        Raises:
            BankError: naming both shapes.
        """
        shape = self.shape
        if keys_SGTD.shape[-1] != values_SGTD.shape[-1]:
            raise BankError(
                f"Keys of size {keys_SGTD.shape[-1]} and values of size {values_SGTD.shape[-1]}",
                "The bank keeps keys and values of one size",
                "Choose a model whose heads have one size for both",
            )
        fits = (
            keys_SGTD.ndim == 4
            and keys_SGTD.shape == values_SGTD.shape
            and keys_SGTD.shape[:2] == (shape.stored_layers, shape.kv_heads)
            and 1 <= keys_SGTD.shape[2] <= shape.chunk_tokens
            and keys_SGTD.shape[3] == shape.head_dim
        )
        if not fits:
            raise BankError(
                f"Keys {list(keys_SGTD.shape)} and values {list(values_SGTD.shape)}",
                f"[{shape.stored_layers}, {shape.kv_heads}, 1 to {shape.chunk_tokens}, {shape.head_dim}] "
                "(stored layers, heads, tokens, head size)",
                "Write chunks read by the model and settings that the bank was made for",
            )

    def gather(
        self,
        slots: Sequence[int],
        out_dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> GatheredKV:
        """Fetch slots in one selection; only what was fetched is moved and widened.

        Args:
            slots: rows to fetch, N of them; none gives tensors with N = 0.
            out_dtype: type to compute in; None keeps the store's own (float32 for quantised ones).
            device: where to; None leaves them beside the store.
        """
        device = self.device if device is None else torch.device(device)
        index = torch.as_tensor(list(slots), dtype=torch.long, device=self.device)
        picked = {name: self._select(name, index, device) for name in self._tensors}
        return GatheredKV(*self._format.read(picked, out_dtype or self._format.wide))

    def resize(self, slots: int, keep: Sequence[int]) -> dict[int, int]:
        """Change the number of slots; ``keep`` move to the front in their order, all others are lost.

        Old and new memory exist side by side until the copy is done.

        Returns:
            The new slot of each one kept.
        """
        if len(keep) > slots:
            raise BankError(f"{len(keep)} slots to keep", f"{slots} slots after the change", "Evict chunks first")
        fresh = self._reserve(slots)
        for name, tensor in fresh.items():
            for new, old in enumerate(keep):
                tensor[new] = self._tensors[name][old]
        self.slots, self._tensors = slots, fresh
        return {old: new for new, old in enumerate(keep)}

    def _reserve(self, slots: int) -> dict[str, Tensor]:
        return {
            name: torch.empty((slots, *shape), dtype=dtype, device=self.device)
            for name, (shape, dtype) in self._format.tensors(self.shape.of_slot).items()
        }

    def _select(self, name: str, index: Tensor, device: torch.device) -> Tensor:
        source = self._tensors[name]
        if device == self.device or self.device.type != "cpu" or device.type != "cuda":
            return source.index_select(0, index).to(device)
        # To a GPU by way of a small page-locked buffer: twice the speed of pageable memory. Locking the slots
        # themselves would take all of their pages at once.
        buffer = self._staging.get(name)
        if buffer is None or len(buffer) < len(index):
            buffer = torch.empty((len(index), *source.shape[1:]), dtype=source.dtype, pin_memory=True)
            self._staging[name] = buffer
        rows = buffer[: len(index)]
        torch.index_select(source, 0, index, out=rows)
        return rows.to(device)  # waits for the copy, so the buffer is free again
