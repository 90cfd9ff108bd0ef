"""A tiny model, an exact retriever and a text with one fact in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session

FACT = "The brass lantern of Ottoline Varga stood in the cellar of the customs house."


@pytest.fixture
def long_text() -> str:
    days = [
        f"On day {day} the harbour master wrote of wind {day * 7 % 13} and of ships from port {day}."
        for day in range(60)
    ]
    return " ".join([*days[:30], FACT, *days[30:]])


@pytest.fixture
def make_session(tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> Callable[..., Session]:
    """Return ``make_session(**settings)``: a session on a tiny random model."""

    def build(**settings: Any) -> Session:
        config = MemoryConfig(
            **{
                "chunk_tokens": 32,
                "window_tokens": 64,
                "top_k": 3,
                "capacity_tokens": 32 * 400,
                "read_batch_tokens": 128,
                "store_dtype": "float32",
                "retrieve_every": 4,
                "local_tokens": 512,
            }
            | settings
        )
        return Session(MemoryModel(tiny_llama(), tiny_tokenizer, config), HashingRetriever(256))

    return build
