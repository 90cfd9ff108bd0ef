"""Stored K-V of training documents, computed once by the original weights and kept quantised as the bank keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from memlong.bank.store import KVShape, KVStore
from memlong.model.wrapper import MemoryModel
from memlong.session.reading import read_windows
from training.data.passages import Passages


class DocumentMemory:
    """A store for the chunks of each document; a document is read when it is first needed.

    The original weights write stored K-V, so they never go stale while the adapter learns.

    Args:
        model: reads the chunks. documents: all documents that may be asked for.
        folder: where what was read is kept for the next run, a file a document; None keeps it in memory.
    """

    def __init__(self, model: MemoryModel, documents: Sequence[Passages], folder: Path | None = None) -> None:
        self.model, self.folder = model, folder
        self._documents = {document.doc_id: document for document in documents}
        self._read: dict[str, KVStore] = {}

    def read(self, doc_id: str, on_batch: Callable[[int], None] | None = None) -> None:
        """Read a document that was not read yet, window by window in batches; ``on_batch`` is told the tokens."""
        if doc_id in self._read:
            return
        document, spec, config = self._documents[doc_id], self.model.spec, self.model.config
        shape = KVShape(len(self.model.layout.stored_layers), spec.kv_heads, config.chunk_tokens, spec.head_dim)
        store = KVStore(len(document.chunks), shape, config.store_dtype)
        path = self._file(document) if self.folder else None
        if path is None or not path.is_file():
            self._fill(store, document, on_batch)
            if path is not None:
                _keep(store, path)
        if path is not None:
            # Pages of the file instead of memory of our own: the system may drop them when memory is short.
            store.adopt(load_file(path))
        self._read[doc_id] = store

    def _fill(self, store: KVStore, document: Passages, on_batch: Callable[[int], None] | None) -> None:
        config = self.model.config
        per_window = config.window_tokens // config.chunk_tokens
        per_batch = per_window * max(1, config.read_batch_tokens // config.window_tokens)
        for start in range(0, len(document.chunks), per_batch):
            chunks = document.chunks[start : start + per_batch]
            windows = [chunks[at : at + per_window] for at in range(0, len(chunks), per_window)]
            kv = read_windows(self.model, windows)
            for row, window in enumerate(windows):
                at = 0
                for chunk in window:
                    store.write(chunk.index, *kv.piece(row, at, at + chunk.n_tokens))
                    at += chunk.n_tokens
            if on_batch:
                on_batch(sum(chunk.n_tokens for chunk in chunks))

    def _file(self, document: Passages) -> Path:
        """Return the file of a document, named by all that its K-V depend on."""
        assert self.folder is not None
        config, layers = self.model.config, self.model.layout.stored_layers
        sizes = (config.chunk_tokens, config.window_tokens)
        said = [self.model.fingerprint(), layers, sizes, config.store_dtype, str(self.model.dtype)]
        digest = hashlib.sha256(repr((said, [chunk.token_ids for chunk in document.chunks])).encode())
        return self.folder / f"{digest.hexdigest()[:24]}.safetensors"

    def texts(self, doc_id: str, chunks: Sequence[int]) -> list[str]:
        """Return the texts of these chunks of a document, as answering puts them into a prompt."""
        return [self._documents[doc_id].texts[index].strip() for index in chunks]

    def rows(self, doc_id: str, chunks: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
        """Return (keys [S, N, G, C, D], values, lengths) of these chunks of a document, for ``stack_memory``.

        In autocast's type where that is on: attention would round them to it at every layer.
        """
        document, device = self._documents[doc_id], self.model.device
        halved = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if halved else self.model.dtype
        gathered = self._read[doc_id].gather(chunks, dtype, device)
        return (
            gathered.keys_SNGCD,
            gathered.values_SNGCD,
            [document.chunks[index].n_tokens for index in chunks],
        )


def _keep(store: KVStore, path: Path) -> None:
    """Write a store's tensors; a kill leaves a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(store.tensors, f"{path}.new")
    Path(f"{path}.new").replace(path)
