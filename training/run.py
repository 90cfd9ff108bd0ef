"""Put a recipe together: model, documents, embeddings, memory, trainer; and export what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memlong.model.part import write_part
from memlong.model.wrapper import MemoryModel
from training.adapters import add_adapter, export_adapter
from training.base import TOY, write_toy
from training.cache import DocumentMemory
from training.checkpoint import start_from
from training.config import TrainConfig
from training.data.passages import Passages, cut
from training.data.sources import interleave, open_source
from training.fitting import with_fitted_maps
from training.loop import HeldOut, Trainer, shorten
from training.questions import Drawn, QuestionSampler
from training.relevance import ScoredParts
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
        cut(tokenizer, doc_id, text, questions, config.memory.chunk_tokens, config.memory.whole_sentences)
        for doc_id, text, questions in islice(
            _short_first(open_source(config.held_out, Path(config.data))), HELD_OUT_DOCUMENTS
        )
    ]
    sampler, judge = (
        _sampler(config, some, retriever, tokenizer, folder / f"embeddings-{name}.npz")
        for some, name in ((documents, "train"), (held_out, "held-out"))
    )
    drawn: list[Drawn] = [
        judge.retrieved(document, index, config.memory.top_k)
        for document in held_out
        for index in shorten(document, HELD_OUT_QUESTIONS)
    ]
    lowest = 0 if config.answer_from == "passages" else plain.layout.retrieval_layers[0]
    adapted = add_adapter(model, config, tuple(range(lowest, plain.spec.layers)))
    trained = MemoryModel(adapted, tokenizer, config.memory, plain.maps)
    kept = Path(config.cache) if config.cache else None
    judged = HeldOut(drawn, DocumentMemory(trained, held_out, kept))
    trainer = Trainer(config, trained, sampler, DocumentMemory(trained, documents, kept), judged, folder)
    if config.start:
        start_from(Path(config.start), trainer.parameters)
    return trainer


def _sampler(
    config: TrainConfig, documents: Sequence[Passages], retriever: Any, tokenizer: Any, cache: Path
) -> QuestionSampler:
    chunks, questions = embed(documents, retriever, cache)
    parts = None
    if config.memory.relevance_strength or config.memory.rerank_candidates:
        own = deepcopy(tokenizer)  # parts are cut in a thread while the other one makes batches
        parts = {d.doc_id: ScoredParts(own, d, retriever, questions[d.doc_id]) for d in documents}
    return QuestionSampler(config, documents, chunks, questions, parts)


def load_documents(config: TrainConfig, tokenizer: Any, limit: int) -> list[Passages]:
    """Return the first ``limit`` documents with at least one usable question, sources taking turns."""
    found: list[Passages] = []
    for doc_id, text, questions in interleave(config.sources, Path(config.data)):
        passages = cut(tokenizer, doc_id, text, questions, config.memory.chunk_tokens, config.memory.whole_sentences)
        if passages.asked:
            found.append(passages)
        if len(found) == limit:
            break
    return found


def embed(
    documents: Sequence[Passages], retriever: Any, cache: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return embeddings of chunks and of questions by doc_id, the latter as they search a bank of this document.

    Only documents that ``cache`` lacks are embedded.
    """
    kept: dict[str, np.ndarray] = {}
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as file:
            kept = {name: file[name] for name in file.files}
    new = [document for document in documents if not _fits(kept, document, retriever.dim)]
    texts = [[[*d.texts] for d in new], [[a.question.question for a in d.asked] for d in new]]
    for letter, each in zip("cq", texts, strict=True):
        vectors = retriever.embed_documents([text for some in each for text in some]) if new else np.zeros((0, 1))
        parts = np.split(vectors, np.cumsum([len(some) for some in each])[:-1])
        kept |= {f"{letter}|{document.doc_id}": part for document, part in zip(new, parts, strict=False)}
    if new:
        cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = cache.with_name("new-" + cache.name)
        np.savez(fresh, **kept)  # type: ignore[arg-type]
        fresh.replace(cache)
    chunks, asked = ({d.doc_id: kept[f"{letter}|{d.doc_id}"] for d in documents} for letter in "cq")
    weighed = {
        name: retriever.weigh_query(asked[name], np.square(chunks[name]).mean(axis=0), len(chunks[name]))
        for name in asked
    }
    return chunks, weighed


def _fits(kept: Mapping[str, np.ndarray], document: Passages, size: int) -> bool:
    chunks, asked = (kept.get(f"{letter}|{document.doc_id}", np.zeros((0, 0))) for letter in "cq")
    return chunks.shape == (len(document.chunks), size) and asked.shape == (len(document.asked), size)


def export(trainer: Trainer | StageTrainer, folder: Path, card: str = "") -> None:
    """Write adapter, memory settings and model card into ``folder``; the folder is replaced as a whole.

    The toy's own weights are written too, since no name leads to them elsewhere.

    All processes must call it, since each may hold a part of the weights; the first one writes.
    """
    weights = None
    if isinstance(trainer, StageTrainer):
        weights = trainer.shared.weights()
        if not trainer.accelerator.is_main_process:
            return
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    export_adapter(trainer.model.model, fresh / "adapter", weights)
    base = trainer.config.model
    if base == TOY:
        write_toy(fresh)
        base = ""  # it lies in the folder itself
    write_part(fresh, trainer.config.memory, base, trainer.model.maps, trainer.model.bias)
    (fresh / "README.md").write_text(card or f"# {trainer.config.recipe}\n\nTrained for {trainer.step} steps.\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _documents_needed(config: TrainConfig) -> int:
    return min(config.max_documents, config.warm_documents + config.steps // max(1, config.documents_every) + 1)


def _short_first(documents: Any) -> list[Any]:
    return sorted(documents, key=lambda document: len(document[1]))
