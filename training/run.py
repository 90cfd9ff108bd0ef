"""Put a recipe together: model, documents, embeddings, memory, trainer; and export what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memlong.model.part import write_part
from memlong.model.wrapper import MemoryModel
from training.adapters import add_adapter, export_adapter
from training.cache import DocumentMemory
from training.config import TrainConfig
from training.data.passages import Passages, cut
from training.data.sources import interleave, open_source
from training.fitting import with_fitted_maps
from training.loop import HeldOut, Trainer, shorten
from training.questions import Drawn, QuestionSampler
from training.stages.trainer import StageTrainer

HELD_OUT_DOCUMENTS, HELD_OUT_QUESTIONS = 3, 16


def build(config: TrainConfig, folder: Path, model: Any, tokenizer: Any, retriever: Any) -> Trainer:
    """Return a trainer for ``config`` on a plain causal language model.

    Args:
        folder: for checkpoints, embeddings and metrics. model, tokenizer: pretrained. retriever: embeds chunks.
    """
    torch.set_num_threads(config.threads)
    plain = MemoryModel(model, tokenizer, config.memory)
    documents = load_documents(config, tokenizer, limit=_documents_needed(config))
    plain = with_fitted_maps(plain, [chunk.token_ids for d in documents for chunk in d.chunks], config.fit_tokens)
    held_out = [
        cut(tokenizer, doc_id, text, questions, config.memory.chunk_tokens)
        for doc_id, text, questions in islice(
            _short_first(open_source("squad-eval", Path(config.data))), HELD_OUT_DOCUMENTS
        )
    ]
    sampler = QuestionSampler(config, documents, *embed(documents, retriever, folder / "embeddings-train.npz"))
    judge = QuestionSampler(config, held_out, *embed(held_out, retriever, folder / "embeddings-held-out.npz"))
    drawn: list[Drawn] = [
        judge.retrieved(document, index, config.memory.top_k)
        for document in held_out
        for index in shorten(document, HELD_OUT_QUESTIONS)
    ]
    lowest = plain.layout.retrieval_layers[0]
    adapted = add_adapter(model, config, tuple(range(lowest, plain.spec.layers)))
    trained = MemoryModel(adapted, tokenizer, config.memory, plain.maps)
    judged = HeldOut(drawn, DocumentMemory(trained, held_out))
    return Trainer(config, trained, sampler, DocumentMemory(trained, documents), judged, folder)


def load_documents(config: TrainConfig, tokenizer: Any, limit: int) -> list[Passages]:
    """Return the first ``limit`` documents with at least one usable question, sources taking turns."""
    found: list[Passages] = []
    for doc_id, text, questions in interleave(config.sources, Path(config.data)):
        passages = cut(tokenizer, doc_id, text, questions, config.memory.chunk_tokens)
        if passages.asked:
            found.append(passages)
        if len(found) == limit:
            break
    return found


def embed(
    documents: Sequence[Passages], retriever: Any, cache: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return embeddings of chunks and of questions by doc_id, from ``cache`` when it was made for these documents."""
    if cache.is_file():
        kept = np.load(cache, allow_pickle=False)
        if all(_fits(kept, d) for d in documents):
            return {d.doc_id: kept[f"c|{d.doc_id}"] for d in documents}, {
                d.doc_id: kept[f"q|{d.doc_id}"] for d in documents
            }
    chunks = _split(
        retriever.embed_documents([text for d in documents for text in d.texts]),
        [len(d.texts) for d in documents],
    )
    asked = _split(
        retriever.embed_documents([a.question.question for d in documents for a in d.asked]),
        [len(d.asked) for d in documents],
    )
    arrays: dict[str, np.ndarray] = {}
    for document, chunk, question in zip(documents, chunks, asked, strict=True):
        arrays[f"c|{document.doc_id}"], arrays[f"q|{document.doc_id}"] = chunk, question
    cache.parent.mkdir(parents=True, exist_ok=True)
    fresh = cache.with_name("new-" + cache.name)
    np.savez(fresh, **arrays)  # type: ignore[arg-type]
    fresh.replace(cache)
    return {d.doc_id: arrays[f"c|{d.doc_id}"] for d in documents}, {
        d.doc_id: arrays[f"q|{d.doc_id}"] for d in documents
    }


def _fits(kept: Any, document: Passages) -> bool:
    chunks, asked = f"c|{document.doc_id}", f"q|{document.doc_id}"
    return chunks in kept and len(kept[chunks]) == len(document.chunks) and len(kept[asked]) == len(document.asked)


def export(trainer: Trainer | StageTrainer, folder: Path, card: str = "") -> None:
    """Write adapter, memory settings and model card into ``folder``; the folder is replaced as a whole."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    export_adapter(trainer.model.model, fresh / "adapter")
    write_part(fresh, trainer.config.memory, trainer.config.model, trainer.model.maps, trainer.model.bias)
    (fresh / "README.md").write_text(card or f"# {trainer.config.recipe}\n\nTrained for {trainer.step} steps.\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _documents_needed(config: TrainConfig) -> int:
    return config.warm_documents + config.steps // max(1, config.documents_every) + 1


def _short_first(documents: Any) -> list[Any]:
    return sorted(documents, key=lambda document: len(document[1]))


def _split(rows: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    return np.split(rows, np.cumsum(sizes)[:-1])
