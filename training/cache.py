"""Stored K-V of training documents, computed once by the original weights and kept quantised as the bank keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from memlong.bank.store import KVShape, KVStore
from memlong.model.wrapper import MemoryModel
from training.data.passages import Passages


class DocumentMemory:
    """Slots for the chunks of all documents; a document is read when it is first needed.

    The original weights write stored K-V, so they never go stale while the adapter learns.

    Args:
        model: reads the chunks. documents: all documents that may be asked for.
    """

    def __init__(self, model: MemoryModel, documents: Sequence[Passages]) -> None:
        self.model = model
        self._first: dict[str, int] = {}
        self._documents = {document.doc_id: document for document in documents}
        self._read: set[str] = set()
        slots = 0
        for document in documents:
            self._first[document.doc_id] = slots
            slots += len(document.chunks)
        spec, config = model.spec, model.config
        shape = KVShape(len(model.layout.stored_layers), spec.kv_heads, config.chunk_tokens, spec.head_dim)
        self.store = KVStore(slots, shape, config.store_dtype)

    def read(self, doc_id: str, on_batch: Callable[[int], None] | None = None) -> None:
        """Read a document that was not read yet, window by window in batches; ``on_batch`` is told the tokens."""
        if doc_id in self._read:
            return
        document, config = self._documents[doc_id], self.model.config
        per_batch = max(1, config.read_batch_tokens // config.chunk_tokens)
        for start in range(0, len(document.chunks), per_batch):
            chunks = document.chunks[start : start + per_batch]
            width = max(chunk.n_tokens for chunk in chunks)
            ids = torch.zeros(len(chunks), width, dtype=torch.long)
            mask = torch.zeros(len(chunks), width, dtype=torch.long)
            for row, chunk in enumerate(chunks):
                ids[row, : chunk.n_tokens] = torch.tensor(chunk.token_ids)
                mask[row, : chunk.n_tokens] = 1
            device = self.model.device
            kv = self.model.read(ids.to(device), None if bool(mask.all()) else mask.to(device))
            for row, chunk in enumerate(chunks):
                self.store.write(self._first[doc_id] + chunk.index, *kv.piece(row, 0, chunk.n_tokens))
            if on_batch:
                on_batch(int(mask.sum()))
        self._read.add(doc_id)

    def texts(self, doc_id: str, chunks: Sequence[int]) -> list[str]:
        """Return the texts of these chunks of a document, as answering puts them into a prompt."""
        return [self._documents[doc_id].texts[index].strip() for index in chunks]

    def rows(self, doc_id: str, chunks: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
        """Return (keys [S, N, G, C, D], values, lengths) of these chunks of a document, for ``stack_memory``."""
        document = self._documents[doc_id]
        slots = [self._first[doc_id] + index for index in chunks]
        gathered = self.store.gather(slots, self.model.dtype, self.model.device)
        return (
            gathered.keys_SNGCD,
            gathered.values_SNGCD,
            [document.chunks[index].n_tokens for index in chunks],
        )
