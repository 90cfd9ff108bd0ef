"""Embedding with a transformers encoder: batches of like length, one forward pass each.

Shapes: n texts, B batch rows, T tokens, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlong.chunking import without_surrogates
from memlong.errors import MemLongError, RetrieverError
from memlong.files import files_hash
from memlong.retriever.base import (
    Part,
    TooLong,
    Vectors,
    VectorsAlone,
    join_parts,
    split_to_fit,
    too_long,
)

# Padded batch [B, T] and its mask [B, T] -> vectors [B, E].
Forward = Callable[[Tensor, Tensor], Tensor]


class EncoderRetriever(VectorsAlone):
    """A retriever around ``forward``, which turns padded token ids into vectors.

    Subclasses load a model and set the attributes of :class:`~memlong.retriever.base.Retriever`.

    Attributes:
        batch_size: texts per forward pass; 8 to 16 is enough on a CPU, more helps a GPU.
    """

    name: str
    dim: int
    max_tokens: int | None
    fingerprint: str
    notice: str = ""

    def __init__(self, tokenizer: Any, forward: Forward, device: torch.device, batch_size: int) -> None:
        self._tokenizer, self._forward, self._device = tokenizer, forward, device
        self._padding = tokenizer.pad_token_id or 0
        self.batch_size = batch_size

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, E]; a text over ``max_tokens`` is the mean of its parts."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        parts = split_to_fit(texts, self._tokenise, self.max_tokens)
        return join_parts(parts, self._embed(parts), len(texts))

    def embed_query(self, text: str) -> Vectors:
        """Return one unit vector [E]."""
        return np.asarray(self.embed_documents([text])[0])

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Return the tokens of each text, special ones included."""
        return [len(ids) for ids in self._tokenise(texts)] if texts else []

    def check(self, texts: Sequence[str]) -> list[TooLong]:
        """Return the texts over ``max_tokens``."""
        return too_long(self.count_tokens(texts), self.max_tokens)

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        clean = [without_surrogates(text) for text in texts]
        encoded = self._tokenizer(clean, truncation=False, padding=False, return_attention_mask=False, verbose=False)
        return list(encoded["input_ids"])

    def _embed(self, parts: Sequence[Part]) -> Vectors:
        """Return [parts, E], longest first in batches of like length, so that little is spent on padding."""
        order = sorted(range(len(parts)), key=lambda index: -len(parts[index].ids))
        vectors = np.zeros((len(parts), self.dim), dtype=np.float32)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            ids_BT, mask_BT = self._pad([parts[row].ids for row in rows])
            with torch.inference_mode():
                vectors_BE = torch.nn.functional.normalize(self._forward(ids_BT, mask_BT).float(), dim=-1)
            vectors[rows] = vectors_BE.cpu().numpy()
        return vectors

    def _pad(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width = max(len(row) for row in ids)
        ids_BT = torch.full((len(ids), width), self._padding)
        mask_BT = torch.zeros(len(ids), width, dtype=torch.long)
        for index, row in enumerate(ids):
            ids_BT[index, : len(row)] = torch.tensor(row)
            mask_BT[index, : len(row)] = 1
        return ids_BT.to(self._device), mask_BT.to(self._device)


def mean_pooling(states_BTE: Tensor, mask_BT: Tensor) -> Tensor:
    """Return [B, E]: the mean over real tokens (sentence-transformers' default pooling)."""
    mask_BT1 = mask_BT[..., None].to(states_BTE.dtype)
    return (states_BTE * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1).clamp(min=1)


def default_batch(device: torch.device) -> int:
    """Return how many texts go through an encoder at once: more than 8 gain nothing on a CPU."""
    return 8 if device.type == "cpu" else 64


@contextmanager
def refusals(model: str) -> Iterator[None]:
    """Turn what libraries raise for a model that is not there, or not an embedder, into a RetrieverError."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, MemLongError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise RetrieverError(
            f"The embedder {model!r} could not be loaded ({type(error).__name__}: {reason})",
            "A folder with config.json, model.safetensors and tokenizer files, or an id the hub delivers",
            "Check the path or the network, or choose the retriever 'minilm' or 'hashing'",
        ) from error


def weights_fingerprint(folder: Path, fallback: str) -> str:
    """Return a short hash of a folder's weights; of its weight files together when there are several."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
    if not files:
        return fallback
    return files_hash(files)[:16]
