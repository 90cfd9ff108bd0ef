"""A tiny model for ``evaluate``, in place of one that is loaded."""

from __future__ import annotations

import argparse

import pytest

from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from training.evaluate import common


@pytest.fixture
def tiny(tiny_llama, tiny_tokenizer, monkeypatch):
    """Let ``evaluate`` load a tiny random model and an embedder without weights."""
    model = MemoryModel(tiny_llama(), tiny_tokenizer, MemoryConfig(chunk_tokens=16, window_tokens=16, top_k=2))

    def load(chosen: argparse.Namespace):
        changes = common.settings(chosen.memory) | ({"top_k": chosen.top_k} if chosen.top_k else {})
        return model.with_config(model.config.replace(**changes)), HashingRetriever(64)

    monkeypatch.setattr(common, "load", load)
    return model
