"""Queries asked together are answered as if each had been asked in its turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import zeros

from memlong.bank.ahead import SearchAhead
from memlong.bank.bank import Bank
from memlong.bank.eviction import POLICIES
from memlong.bank.ledger import ChunkPlace
from memlong.bank.store import KVShape

SHAPE = KVShape(stored_layers=1, kv_heads=1, chunk_tokens=4, head_dim=2)
DIM = 4


def vectors(count: int, seed: int) -> np.ndarray:
    """Return unit vectors of few different directions, so that equal scores are common."""
    raw = np.random.default_rng(seed).integers(-1, 2, size=(count, DIM)).astype(np.float32)
    raw[:, 0] += 2
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def write(bank: Bank, embedding: np.ndarray) -> None:
    order = bank.ledger.clock
    states = zeros(1, 1, 4, 2)
    bank.write(ChunkPlace(0, order, (order, order + 1), 4), embedding, states, states)


@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("policy", POLICIES)
@given(
    held=st.integers(0, 30),
    room=st.integers(2, 40),
    top_k=st.integers(1, 6),
    queries=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_each_query_finds_what_a_search_at_its_time_finds(
    policy: str, held: int, room: int, top_k: int, queries: int, seed: int
) -> None:
    bank = Bank.create(SHAPE, DIM, 4 * room, policy, "float32")
    for embedding in vectors(held, seed):
        write(bank, embedding)
        bank.evict()
    asked = vectors(queries, seed + 1)
    ahead = SearchAhead(bank, asked, top_k)
    for number, query in enumerate(asked):
        hits = ahead.search(number)
        assert hits == bank.search(query, top_k)
        bank.trigger([hit.chunk_id for hit in hits])
        write(bank, query)
        bank.evict()


def test_a_batch_is_one_walk_over_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Bank.create(SHAPE, DIM, 4 * 50, "fifo", "float32")
    for embedding in vectors(50, 0):
        write(bank, embedding)
        bank.evict()
    ahead = SearchAhead(bank, vectors(8, 1), 3)

    def walk(*args: object, **kwargs: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(bank.index, "search", walk)
    for number, query in enumerate(vectors(8, 1)):
        ahead.search(number)
        write(bank, query)
        bank.evict()


def test_when_most_of_the_bank_left_it_is_searched_anew() -> None:
    bank = Bank.create(SHAPE, DIM, 4 * 50, "fifo", "float32")
    for embedding in vectors(40, 0):
        write(bank, embedding)
    query = vectors(1, 1)
    ahead = SearchAhead(bank, query, 3)
    for hit in bank.search(query[0], 10):
        bank.delete(hit.chunk_id)
    assert ahead.search(0) == bank.search(query[0], 3) != []
