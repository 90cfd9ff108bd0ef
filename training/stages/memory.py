"""The memory of a batch: one bank a row, cleared where a document starts, written by the original weights.

Shapes: B rows, T tokens of a window, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlong.attention.context import MemoryContext
from memlong.bank.bank import Bank
from memlong.bank.ledger import ChunkPlace
from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from memlong.session.session import make_bank

KV = tuple[Tensor, Tensor, Sequence[int]]


class RowMemory:
    """The bank of one batch row. A window retrieves with the chunk before it, then is stored itself."""

    def __init__(self, model: MemoryModel, embedding_dim: int) -> None:
        self.config: MemoryConfig = model.config
        self.bank: Bank = make_bank(model, embedding_dim, model.config)
        self._dtype, self._device = model.dtype, model.device
        self._before: np.ndarray | None = None
        self._chunks = 0

    def clear(self) -> None:
        """Forget everything: another document starts."""
        self.bank.clear()
        self._before, self._chunks = None, 0

    def retrieve(self) -> KV:
        """Return what the next window reads, in document order; nothing at a document's start."""
        hits = [] if self._before is None else self.bank.search(self._before, self.config.top_k)
        ids = sorted(hit.chunk_id for hit in hits)
        self.bank.trigger(ids)
        keys, values = self.bank.gather(ids, self._dtype, self._device)
        return keys, values, self.bank.lengths(ids)

    def store(self, sizes: Sequence[int], embeddings_NE: np.ndarray, keys_SGTD: Tensor, values_SGTD: Tensor) -> None:
        """Store a window's chunks, of ``sizes`` tokens each, and evict what is over capacity."""
        start = 0
        for size, embedding in zip(sizes, embeddings_NE, strict=True):
            end, step = start + size, self._chunks
            place = ChunkPlace(0, step, (step, step + 1), size)
            self.bank.write(place, embedding, keys_SGTD[:, :, start:end], values_SGTD[:, :, start:end], step=step)
            self._chunks, start = self._chunks + 1, end
        self.bank.evict(self._chunks)
        self._before = embeddings_NE[-1]


class BatchMemory:
    """The rows' memories of one process.

    Args:
        model: its original weights write. retriever: embeds chunks. rows: of this process.
        to_end: whether reading runs all layers.
    """

    def __init__(self, model: MemoryModel, retriever: Any, rows: int, to_end: bool = False) -> None:
        self.model, self.retriever = model, retriever
        self._read = model.read_to_end if to_end else model.read
        self.rows = [RowMemory(model, retriever.dim) for _ in range(rows)]

    def read(self, rows: Sequence[int], windows: Sequence[np.ndarray]) -> None:
        """Store one window in each of ``rows``."""
        ids, mask = padded(windows)
        device = self.model.device
        kv = self._read(ids.to(device), None if bool(mask.all()) else mask.to(device))
        size = self.model.config.chunk_tokens
        pieces = [[window[at : at + size] for at in range(0, len(window), size)] for window in windows]
        texts = [self.model.tokenizer.decode(piece.tolist()) for window in pieces for piece in window]
        embeddings, first = self.retriever.embed_documents(texts), 0
        for index, (row, window) in enumerate(zip(rows, pieces, strict=True)):
            mine = embeddings[first : first + len(window)]
            first += len(window)
            keys, values = kv.piece(index, 0, len(windows[index]))
            self.rows[row].store([len(piece) for piece in window], mine, keys, values)

    def context(self, rows: Sequence[int]) -> MemoryContext | None:
        """Return what the next windows of ``rows`` read; None where no row has any memory yet."""
        retrieved = [self.rows[row].retrieve() for row in rows]
        return self.model.stack_memory(retrieved) if any(lengths for _, _, lengths in retrieved) else None


def padded(windows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return ids [B, T] and mask [B, T] of right-padded windows."""
    width = max(len(window) for window in windows)
    ids = torch.zeros(len(windows), width, dtype=torch.long)
    mask = torch.zeros(len(windows), width, dtype=torch.long)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = torch.from_numpy(window)
        mask[row, : len(window)] = 1
    return ids, mask
