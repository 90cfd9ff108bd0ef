"""Any sentence-transformers model, with its own pooling, normalisation and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from memlong.chunking import without_surrogates
from memlong.errors import RetrieverError
from memlong.hardware import fastest_dtype, resolve_device
from memlong.quiet import quiet
from memlong.retriever.base import (
    TooLong,
    Vectors,
    VectorsAlone,
    join_parts,
    normalise,
    split_to_fit,
    too_long,
)
from memlong.retriever.encoder import default_batch, refusals, weights_fingerprint


class SentenceRetriever(VectorsAlone):
    """A model of the sentence-transformers library.

    Args:
        model: hub id or folder. device: auto, cpu, cuda, cuda:1, mps.
        dtype: number type of weights; None takes the fastest one here.
        batch_size: texts per forward pass; None for 8 on a CPU and 64 elsewhere.
        query_prompt, document_prompt: names of the model's own prompts ("query", "passage" ...), put before
            texts.

    Raises:
        RetrieverError: when the model cannot be loaded or has no such prompt.
    """

    name = "sentence"

    def __init__(
        self,
        model: str,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
    ) -> None:
        place = resolve_device(device)
        with quiet(), refusals(model):
            from sentence_transformers import SentenceTransformer

            self._model = SentenceTransformer(
                model,
                device=str(place),
                trust_remote_code=False,
                model_kwargs={"dtype": dtype or fastest_dtype(place)[0], "use_safetensors": True},
            )
        self._prompts = {"query": self._prompt(query_prompt), "document": self._prompt(document_prompt)}
        self.batch_size = batch_size or default_batch(place)
        self.dim = int(self._model.get_embedding_dimension() or 0)
        self.max_tokens: int | None = self._model.max_seq_length
        prompts = ":".join(self._prompts.values())
        self.fingerprint = f"{self.name}:{_identity(model)}:{prompts}".rstrip(":")
        self.notice = ""

    def low_score(self, chunk_tokens: int, reranked: bool = False) -> float:
        """Return the score that ``Retriever.low_score`` describes."""
        return 0.25  # models differ; a guess, not measured

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, E]; a text over ``max_tokens`` is the mean of its parts."""
        return self._embed(texts, self._prompts["document"])

    def embed_query(self, text: str) -> Vectors:
        """Return one unit vector [E]."""
        return np.asarray(self._embed([text], self._prompts["query"])[0])

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Return the tokens of each text with the document prompt, special ones included."""
        return [len(ids) for ids in self._tokenise(texts, self._prompts["document"])] if texts else []

    def check(self, texts: Sequence[str]) -> list[TooLong]:
        """Return the texts over ``max_tokens``."""
        return too_long(self.count_tokens(texts), self.max_tokens)

    def _embed(self, texts: Sequence[str], prompt: str) -> Vectors:
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        parts = split_to_fit(texts, lambda some: self._tokenise(some, prompt), self.max_tokens)
        with torch.inference_mode():
            vectors = self._model.encode(
                [without_surrogates(part.text) for part in parts],
                prompt=prompt or None,
                batch_size=self.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return join_parts(parts, normalise(np.asarray(vectors, dtype=np.float32)), len(texts))

    def _tokenise(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        clean = [prompt + without_surrogates(text) for text in texts]
        encoded = self._model.tokenizer(clean, truncation=False, padding=False, verbose=False)
        return list(encoded["input_ids"])

    def _prompt(self, name: str | None) -> str:
        if name is None:
            return ""
        known = {key: value for key, value in self._model.prompts.items() if value}
        if name not in known:
            raise RetrieverError(
                f"The prompt {name!r}",
                f"This model has: {', '.join(known) or 'no prompts'}",
                "Choose one of them, or leave the prompt out",
            )
        return known[name]


def _identity(model: str) -> str:
    """Return a hash of the weights on disk, the model's id where they cannot be found."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, "model.safetensors")
        if not isinstance(cached, str):
            return model
        folder = Path(cached).parent
    return weights_fingerprint(folder, model)
