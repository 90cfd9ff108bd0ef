"""Scoring in blocks against a loop of single windows written from the definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from memlong.bank.ledger import ChunkPlace
from memlong.chunking import chunk_text
from memlong.config import MemoryConfig
from memlong.errors import ConfigError, DocumentError, MemLongError, ModelError
from memlong.evaluation.perplexity import Scorer
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session.session import make_bank
from tests.memlong.evaluation.losses import token_losses

TEXT = " ".join(
    f"In year {year} the harbour master of Brackwater lost {year * 7 % 23} barrels of salt and wrote it down."
    for year in range(24)
)
PAPER = {"preset": "paper", "stored_layers": (2,), "retrieval_layers": (3, 5)}
SAME = {"preset": "paper", "stored_layers": (2,), "retrieval_layers": (2, 4)}
OWN = {"preset": "own", "stored_layers": (2, 3, 4), "retrieval_layers": (2, 3, 4)}


def _model(tiny_llama: Callable[..., Any], tokenizer: Any, **settings: Any) -> MemoryModel:
    plain = {"chunk_tokens": 16, "window_tokens": 16, "top_k": 3, "capacity_tokens": 160, "store_dtype": "float32"}
    return MemoryModel(tiny_llama(layers=6), tokenizer, MemoryConfig(**(plain | settings)))


def _step_by_step(model: MemoryModel, retriever: HashingRetriever, query: str, newest: int = 0) -> Tensor:
    """One window after the other: embed, search, run, read, store, evict."""
    config, bank = model.config, make_bank(model, retriever.dim, model.config)
    chunks = chunk_text(model.tokenizer, TEXT, config.chunk_tokens)
    losses, carried, before = [], None, None
    for chunk in chunks:
        ids = torch.tensor([chunk.token_ids])
        embedding = retriever.embed_documents([TEXT[slice(*chunk.span)]])[0]
        asked = embedding if query == "current" else before
        last = [record.chunk_id for record in bank.records() if record.index_in_doc >= chunk.index - newest]
        older = config.top_k - len(last)
        hits = [] if asked is None or not older else bank.search(asked, older, exclude=last)
        found = sorted([*last, *(hit.chunk_id for hit in hits)])
        bank.trigger(found)
        memory = model.memory(*bank.gather(found), bank.lengths(found)) if found else None
        with torch.no_grad():
            logits = model.forward(ids, memory).logits[0]
        predicted = logits[:-1] if carried is None else torch.cat([carried[None], logits[:-1]])
        targets = ids[0, 1:] if carried is None else ids[0]
        losses.append(-predicted.log_softmax(-1).gather(1, targets[:, None])[:, 0])
        carried, before = logits[-1], embedding
        place = ChunkPlace(0, chunk.index, chunk.span, chunk.n_tokens)
        bank.write(place, embedding, *model.read(ids).piece(0, 0, chunk.n_tokens), step=chunk.index)
        bank.evict(chunk.index)
    return torch.cat(losses)


@pytest.mark.parametrize("query", ["previous", "current"])
@pytest.mark.parametrize("layout", [PAPER, SAME, OWN], ids=["paper", "stored layer retrieves", "own"])
def test_blocks_equal_single_windows(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, layout: dict[str, Any], query: str
) -> None:
    model, retriever = _model(tiny_llama, tiny_tokenizer, **layout), HashingRetriever(64)
    expected = _step_by_step(model, retriever, query)
    for block_tokens in (16, 4096):
        scorer = Scorer(model, retriever, query, block_tokens)
        losses = token_losses(scorer, TEXT)
        assert (losses - expected).abs().max() < 2e-4
        score = scorer.score(TEXT)
        assert score.n_tokens == len(expected)
        assert score.loss == pytest.approx(float(expected.double().sum()), rel=1e-5)
        assert score.chunks_evicted > 0 and score.chunks_kept == 10
    off = Scorer(model.with_config(model.config.replace(memory_strength=float("-inf"))), retriever, query)
    assert (token_losses(off, TEXT) - expected).abs().max() > 0.1


@pytest.mark.parametrize("newest", [2, 3])
def test_some_chunks_may_be_those_right_before_the_window(tiny_llama, tiny_tokenizer, newest):
    model, retriever = _model(tiny_llama, tiny_tokenizer, **OWN, capacity_tokens=128), HashingRetriever(64)
    expected = _step_by_step(model, retriever, "previous", newest)
    assert (expected - _step_by_step(model, retriever, "previous")).abs().max() > 1e-2
    for block_tokens in (16, 4096):
        losses = token_losses(Scorer(model, retriever, block_tokens=block_tokens, newest=newest), TEXT)
        assert (losses - expected).abs().max() < 2e-4


def test_windows_of_several_chunks_do_not_depend_on_the_block(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    model, retriever = _model(tiny_llama, tiny_tokenizer, **PAPER, window_tokens=32), HashingRetriever(64)
    one, many = (token_losses(Scorer(model, retriever, "previous", tokens), TEXT) for tokens in (32, 256))
    assert (one - many).abs().max() < 2e-4


def test_wrong_use_is_refused(tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> None:
    model, retriever = _model(tiny_llama, tiny_tokenizer, **OWN), HashingRetriever(64)
    with pytest.raises(MemLongError, match="previous"):
        Scorer(model, retriever, "previos")
    for newest in (-1, 4):
        with pytest.raises(ConfigError, match=f"{newest} newest chunks of 3"):
            Scorer(model, retriever, newest=newest)
    with pytest.raises(DocumentError, match="two tokens"):
        Scorer(model, retriever).score("")
    with pytest.raises(ModelError, match="Call read"):
        model.forward_reading(torch.ones(1, 4, dtype=torch.long), lambda kv: None)
