"""The three parts of the bank in step, whatever is done to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor

from memlong.bank import bank as module
from memlong.bank.bank import SPARE_SLOTS, Bank
from memlong.bank.capacity import Capacity
from memlong.bank.eviction import POLICIES
from memlong.bank.ledger import ChunkPlace, ChunkRecord
from memlong.bank.store import KVShape, KVStore
from memlong.errors import BankError
from memlong.index.base import Vectors
from tests.memlong.index.exact import ExactIndex

DIM = 8
SHAPE = KVShape(stored_layers=2, kv_heads=2, chunk_tokens=4, head_dim=3)


def embedding(chunk_id: int) -> Vectors:
    """Return a vector of length 1 that no other chunk has."""
    vector = np.random.default_rng(chunk_id).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def kv(chunk_id: int, tokens: int = 4) -> tuple[Tensor, Tensor]:
    """Return keys and values [S, G, T, D] that no other chunk has."""
    size = (2, SHAPE.stored_layers, SHAPE.kv_heads, tokens, SHAPE.head_dim)
    keys, values = torch.randn(size, generator=torch.Generator().manual_seed(chunk_id))
    return keys, values


def write(bank: Bank, doc_id: int = 0, tokens: int = 4, step: int = 0) -> ChunkRecord:
    """Write the next chunk with its own embedding and K-V."""
    next_id = bank.ledger.clock
    place = ChunkPlace(doc_id, next_id, (next_id * 10, next_id * 10 + 10), tokens)
    return bank.write(place, embedding(next_id), *kv(next_id, tokens), step=step)


def restore(bank: Bank, record: ChunkRecord, pinned: bool = False) -> ChunkRecord:
    return bank.restore(record, embedding(record.chunk_id), *kv(record.chunk_id, record.n_tokens), pinned=pinned)


def filled(chunks: int, capacity_tokens: int = 400, policy: str = "trigger_count") -> Bank:
    """Return a bank of whole chunks, ten a document, float32."""
    bank = Bank.create(SHAPE, DIM, capacity_tokens, policy, "float32")
    for n in range(chunks):
        write(bank, doc_id=n // 10)
        bank.evict()
    return bank


class BankMachine(RuleBasedStateMachine):
    """Random life of a bank, beside the simplest account of what it should hold."""

    @initialize(
        policy=st.sampled_from(sorted(POLICIES)),
        dtype=st.sampled_from(["float32", "bfloat16", "int8"]),
        capacity=st.integers(4, 40),
    )
    def start(self, policy: str, dtype: str, capacity: int) -> None:
        self.bank = Bank.create(SHAPE, DIM, capacity, policy, dtype)
        self.held: dict[int, ChunkRecord] = {}
        self.gone: dict[int, ChunkRecord] = {}
        self.pinned: set[int] = set()
        self.counts: dict[int, int] = {}

    def pick(self, number: int) -> int | None:
        ids = sorted(self.held)
        return ids[number % len(ids)] if ids else None

    def pinned_sizes(self) -> tuple[int, int]:
        return sum(self.held[chunk_id].n_tokens for chunk_id in self.pinned), len(self.pinned)

    def lacks_room(self, tokens: int) -> bool:
        """Whether one chunk more could not be kept beside the pinned ones."""
        pinned_tokens, pinned_chunks = self.pinned_sizes()
        return not self.bank.capacity.fits(pinned_tokens + tokens, pinned_chunks + 1)

    def left(self, records: list[ChunkRecord]) -> None:
        for record in records:
            self.gone[record.chunk_id] = self.held.pop(record.chunk_id)

    @rule(tokens=st.integers(1, 4), document=st.integers(0, 3))
    def write(self, tokens: int, document: int) -> None:
        if self.lacks_room(tokens) or not self.bank.spare_slots:
            with pytest.raises(BankError, match=r"are pinned|No slot is free"):
                write(self.bank, document, tokens)
            return
        record = write(self.bank, document, tokens)
        assert record.chunk_id not in self.counts
        self.held[record.chunk_id], self.counts[record.chunk_id] = record, 0

    @rule(number=st.integers(0, 50), top_k=st.integers(1, 5))
    def retrieve(self, number: int, top_k: int) -> None:
        hits = self.bank.search(embedding(number), top_k)
        assert len(hits) == min(top_k, len(self.held))
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        self.bank.trigger([hit.chunk_id for hit in hits])
        for hit in hits:
            self.counts[hit.chunk_id] += 1

    @rule(number=st.integers(0, 50))
    def pin(self, number: int) -> None:
        if (chunk_id := self.pick(number)) is None:
            return
        if chunk_id not in self.pinned and self.lacks_room(self.held[chunk_id].n_tokens):
            with pytest.raises(BankError, match="are pinned"):
                self.bank.pin(chunk_id)
            return
        self.bank.pin(chunk_id)
        self.pinned.add(chunk_id)

    @rule(number=st.integers(0, 50))
    def unpin(self, number: int) -> None:
        if (chunk_id := self.pick(number)) is not None:
            self.bank.unpin(chunk_id)
            self.pinned.discard(chunk_id)

    @rule(number=st.integers(0, 50))
    def delete(self, number: int) -> None:
        if (chunk_id := self.pick(number)) is not None:
            self.left([self.bank.delete(chunk_id)])
            self.pinned.discard(chunk_id)

    @rule(document=st.integers(0, 3))
    def delete_document(self, document: int) -> None:
        records = self.bank.delete_document(document)
        assert all(record.doc_id == document for record in records)
        self.left(records)
        self.pinned -= {record.chunk_id for record in records}

    @precondition(lambda self: self.gone)
    @rule(number=st.integers(0, 50), pinned=st.booleans())
    def restore(self, number: int, pinned: bool) -> None:
        chunk_id = sorted(self.gone)[number % len(self.gone)]
        if self.lacks_room(self.gone[chunk_id].n_tokens) or not self.bank.spare_slots:
            with pytest.raises(BankError, match=r"are pinned|No slot is free"):
                restore(self.bank, self.gone[chunk_id], pinned)
            return
        self.held[chunk_id] = restore(self.bank, self.gone[chunk_id], pinned)
        del self.gone[chunk_id]
        if pinned:
            self.pinned.add(chunk_id)

    def fits(self) -> bool:
        return self.bank.capacity.fits(self.bank.tokens, len(self.bank))

    @rule()
    def evict(self) -> None:
        was_over = not self.fits()
        evictions = self.bank.evict()
        assert bool(evictions) == was_over
        assert all(each.rule and each.policy == self.bank.policy.name for each in evictions)
        assert not {each.record.chunk_id for each in evictions} & self.pinned
        self.left([each.record for each in evictions])
        assert self.fits()

    @rule(capacity=st.integers(4, 60))
    def change_capacity(self, capacity: int) -> None:
        if not Capacity.of(capacity, SHAPE.chunk_tokens).fits(*self.pinned_sizes()):
            with pytest.raises(BankError, match="are pinned"):
                self.bank.set_capacity(capacity)
            return
        self.left([each.record for each in self.bank.set_capacity(capacity)])
        assert self.bank.capacity == Capacity.of(capacity, SHAPE.chunk_tokens)
        assert self.bank.store.slots == self.bank.capacity.slots + SPARE_SLOTS
        assert self.fits()

    @rule(policy=st.sampled_from(sorted(POLICIES)))
    def change_policy(self, policy: str) -> None:
        self.bank.set_policy(policy)

    @rule()
    def clear(self) -> None:
        records = self.bank.records()
        self.bank.clear()
        self.left(records)
        self.pinned = set()

    @invariant()
    def the_parts_agree(self) -> None:
        bank, ids = self.bank, sorted(self.held)
        assert [record.chunk_id for record in bank.records()] == bank.index.ids() == ids
        assert bank.tokens == sum(record.n_tokens for record in self.held.values())
        assert {record.chunk_id for record in bank.records() if record.pinned} == self.pinned
        assert {record.chunk_id: record.trigger_count for record in bank.records()} == {
            chunk_id: self.counts[chunk_id] for chunk_id in ids
        }
        slots = [record.slot for record in bank.records()]
        assert sorted([*slots, *bank._free]) == list(range(bank.store.slots))

    @invariant()
    def a_chunk_is_found_by_its_own_embedding_and_has_its_own_kv(self) -> None:
        exact = {"float32": 0.0, "bfloat16": 2**-8, "int8": 1 / 127}[self.bank.store.dtype]
        for chunk_id, record in self.held.items():
            found = self.bank.search(embedding(chunk_id), 1)[0].chunk_id
            assert found == chunk_id
            gathered = self.bank.gather([found], torch.float32)
            assert self.bank.lengths([found]) == [record.n_tokens]
            for states, own in zip(gathered, kv(chunk_id, record.n_tokens)):
                error = (states[:, 0, :, : record.n_tokens] - own).abs().max()
                assert error <= exact * own.abs().max()


BankMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestBankMachine = BankMachine.TestCase


def test_search_is_limited_to_documents_and_leaves_out_what_it_is_told_to() -> None:
    bank = filled(30)
    query = embedding(15)
    assert bank.search(query, 1)[0].chunk_id == 15
    assert {hit.chunk_id // 10 for hit in bank.search(query, 30, documents={0, 2})} == {0, 2}
    assert 15 not in {hit.chunk_id for hit in bank.search(query, 30, exclude={15})}
    both = {hit.chunk_id for hit in bank.search(query, 30, documents={1}, exclude={15, 16})}
    assert both == set(range(10, 20)) - {15, 16}
    assert bank.search(query, 3, documents=set()) == []
    assert bank.search(query, 3, documents={99}) == []
    assert bank.search(query, 3, documents={0, 1, 2}) == bank.search(query, 3)


def test_several_queries_at_once_are_answered_as_one_by_one() -> None:
    bank = filled(12)
    queries = np.stack([embedding(n) for n in (3, 50, 7)])
    assert bank.search_many(queries, 4) == [bank.search(query, 4) for query in queries]


def test_an_empty_bank_finds_nothing() -> None:
    assert filled(0).search(embedding(0), 3) == []


def test_evictions_say_who_left_and_why() -> None:
    bank = filled(10, capacity_tokens=40)
    bank.trigger([0, 1])
    write(bank)
    (left,) = bank.evict(step=77)
    assert left.record.chunk_id == 2
    assert (left.policy, left.rule) == ("trigger_count", "fewest triggers (0), oldest first")
    assert (left.age_chunks, left.occupancy_tokens, left.capacity_tokens, left.step) == (9, 44, 40, 77)


def test_bands_evict_in_a_batch() -> None:
    bank = filled(10, capacity_tokens=40, policy="trigger_bands")
    write(bank)
    assert len(bank.evict()) == 6
    assert bank.tokens == 20


def test_a_restored_chunk_has_its_old_counts_and_age() -> None:
    bank = filled(5)
    bank.trigger([3, 3, 3], step=9)
    gone = replace(bank.get(3))
    bank.delete(3)
    write(bank)
    back = restore(bank, gone)
    assert (back.trigger_count, back.written_order, back.last_step) == (3, 3, 9)
    assert [record.chunk_id for record in bank.records()] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(BankError, match="Chunk 3 is in the bank"):
        restore(bank, gone)


def test_writing_needs_an_eviction_now_and_then() -> None:
    bank = filled(0, capacity_tokens=4)
    for _ in range(1 + SPARE_SLOTS):
        write(bank)
    with pytest.raises(BankError, match=r"No slot is free.*Evict after each window"):
        write(bank)
    assert bank.spare_slots == 0
    assert len(bank.evict()) == SPARE_SLOTS
    assert write(bank).chunk_id == 1 + SPARE_SLOTS


def test_a_bank_full_of_pinned_chunks_says_so() -> None:
    bank = filled(3, capacity_tokens=12)
    for chunk_id in range(3):
        bank.pin(chunk_id)
    with pytest.raises(BankError, match=r"3 chunks \(12 tokens\) are pinned.*Unpin some chunks or raise"):
        write(bank)
    with pytest.raises(BankError, match="are pinned"):
        bank.set_capacity(8)
    assert bank.capacity.tokens == 12
    bank.unpin(0)
    write(bank)
    assert [each.record.chunk_id for each in bank.evict()] == [0]


def test_a_chunk_too_many_cannot_be_pinned() -> None:
    bank = filled(2, capacity_tokens=8)
    bank.pin(0)
    bank.pin(1)
    bank.pin(1)  # once more changes nothing
    assert bank.ledger.pinned_tokens == 8
    bank.unpin(1)
    write(bank)
    bank.pin(2)
    with pytest.raises(BankError, match="are pinned"):
        bank.pin(1)


@pytest.mark.parametrize(
    "tokens, vector",
    [
        (3, embedding(0)),
        (4, embedding(0)[:5]),
        (4, np.full(DIM, np.inf, dtype=np.float32)),
    ],
)
def test_a_write_that_fails_leaves_no_trace(tokens: int, vector: Vectors) -> None:
    bank = filled(2)
    spare = bank.spare_slots
    with pytest.raises(BankError):
        bank.write(ChunkPlace(0, 0, (0, 1), 4), vector, *kv(0, tokens))
    assert (len(bank), len(bank.index), bank.spare_slots, bank.ledger.clock) == (2, 2, spare, 2)


def test_growing_and_shrinking_take_and_give_back_memory() -> None:
    bank = filled(10, capacity_tokens=40)
    small = bank.nbytes
    assert bank.set_capacity(400) == []
    assert bank.nbytes > small
    assert len(bank.set_capacity(20)) == 5
    assert bank.nbytes < small
    assert [record.slot for record in bank.records()] == [0, 1, 2, 3, 4]


def test_growing_beyond_the_memory_is_refused_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = filled(5, capacity_tokens=20)

    def refuse(needed: int, tokens: int, device: object) -> None:
        raise BankError(f"{needed} bytes for {tokens}", "less", "less")

    monkeypatch.setattr(module, "require_memory", refuse)
    with pytest.raises(BankError, match="for 4000"):
        bank.set_capacity(4000)
    assert bank.capacity.tokens == 20
    assert len(bank) == 5
    bank.set_capacity(8)  # shrinking is always possible
    assert len(bank) == 2


def test_the_estimate_is_what_a_full_bank_takes() -> None:
    bank = filled(0, capacity_tokens=40)
    for _ in range(10 + SPARE_SLOTS):
        write(bank)
    assert bank.nbytes == Bank.estimate_bytes(SHAPE, DIM, 40, "float32")


def test_the_plain_index_serves_as_well() -> None:
    bank = Bank(KVStore(12, SHAPE), ExactIndex(DIM), Capacity.of(40, 4), "fifo")
    for _ in range(12):
        write(bank)
    assert [each.record.chunk_id for each in bank.evict()] == [0, 1]
    assert bank.search(embedding(7), 1)[0].chunk_id == 7


def test_a_store_without_spare_slots_is_refused() -> None:
    with pytest.raises(BankError, match=r"Bank\.create"):
        Bank(KVStore(10, SHAPE), ExactIndex(DIM), Capacity(40, 10))


def test_chunks_that_are_not_held_are_named() -> None:
    bank = filled(2)
    for ask in (bank.get, bank.pin, bank.unpin, bank.delete, lambda id: bank.gather([id])):
        with pytest.raises(BankError, match="Chunk 7 is not in the bank"):
            ask(7)
    with pytest.raises(BankError, match="7"):
        bank.embedding(7)


def test_a_bank_is_adopted_into_an_empty_one_only() -> None:
    with pytest.raises(BankError, match="An empty one"):
        filled(1).adopt([], np.empty((0, DIM), dtype=np.float32))
