"""A hidden sentence: what became of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memlong.config import AskOptions, MemoryConfig
from memlong.evaluation import needle as needles
from memlong.evaluation.needle import Needle
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Answer, Session


@pytest.mark.parametrize("steps", [False, True])
def test_a_needle_that_only_a_step_fetched_was_found(tiny_llama, tiny_tokenizer, monkeypatch, steps):
    config = MemoryConfig(chunk_tokens=32, window_tokens=32, top_k=2, store_dtype="float32", read_batch_tokens=64)
    real = Session.stream

    def stream(self, question, options=None, cancel=lambda: False):
        *_, answer = real(self, question, options or AskOptions(), cancel)
        assert isinstance(answer, Answer)
        yield replace(answer, retrieved=(), steps=(answer,) if steps else ())

    monkeypatch.setattr(Session, "stream", stream)
    text = " ".join(f"On day {i} ship {i * 7 % 11} met wind {i * 5 % 13}." for i in range(20))
    hidden = Needle("The brass lantern stood in the cellar.", "Where did the brass lantern stand?", "cellar")
    *_, last = needles.run(
        MemoryModel(tiny_llama(), tiny_tokenizer, config), HashingRetriever(64), text, hidden, [(0.5, 4096)]
    )
    (tried,) = last.tries
    assert (tried.outcome == needles.OUTCOMES[1]) == steps
