"""The books of the bank."""

from __future__ import annotations

import math

import pytest

from memlong.bank.ledger import ChunkPlace, ChunkRecord, Ledger
from memlong.errors import BankError


def place(doc_id: int = 0, n_tokens: int = 10, index: int = 0) -> ChunkPlace:
    return ChunkPlace(doc_id, index, (0, 40), n_tokens)


def test_ids_and_the_clock_count_every_chunk_ever_written() -> None:
    ledger = Ledger()
    first, second = ledger.write(place(), slot=3, step=7), ledger.write(place(1), slot=4, step=8)
    assert [(r.chunk_id, r.written_order, r.written_step, r.slot) for r in (first, second)] == [
        (0, 0, 7, 3),
        (1, 1, 8, 4),
    ]
    ledger.remove(1)
    assert ledger.write(place(), 5, 9).chunk_id == 2  # never reused
    assert ledger.clock == 3


def test_totals_follow_every_change() -> None:
    ledger = Ledger()
    for tokens in (10, 20, 30):
        ledger.write(place(n_tokens=tokens), 0, 0)
    ledger.pin(1)
    ledger.pin(1)
    assert (len(ledger), ledger.tokens, ledger.pinned_chunks, ledger.pinned_tokens) == (3, 60, 1, 20)
    ledger.unpin(0)  # was not pinned
    assert ledger.remove(1).pinned
    assert (len(ledger), ledger.tokens, ledger.pinned_chunks, ledger.pinned_tokens) == (2, 40, 0, 0)


def test_records_come_by_rising_id_after_a_restore() -> None:
    ledger = Ledger()
    for _ in range(4):
        ledger.write(place(), 0, 0)
    gone = ledger.remove(1)
    ledger.add(gone)
    assert [record.chunk_id for record in ledger.records()] == [0, 1, 2, 3]
    assert ledger.write(place(), 0, 0).chunk_id == 4


def test_documents_know_their_chunks_and_vanish_with_the_last() -> None:
    ledger = Ledger()
    for doc_id in (5, 6, 5):
        ledger.write(place(doc_id), 0, 0)
    assert ledger.of_document(5) == {0, 2}
    assert set(ledger.documents()) == {5, 6}
    ledger.remove(1)
    assert set(ledger.documents()) == {5}
    assert ledger.of_document(6) == set()


def test_triggers_are_counted_with_the_time_of_the_last() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.write(place(), 0, 0)
    ledger.trigger([0, 2], step=11)
    ledger.write(place(), 0, 0)
    ledger.trigger([0], step=12)
    assert [r.trigger_count for r in ledger.records()] == [2, 0, 1, 0]
    assert (ledger.get(0).last_trigger, ledger.get(0).last_step) == (4, 12)
    assert (ledger.get(1).last_trigger, ledger.get(1).last_step) == (-1, -1)


def test_a_trigger_of_a_chunk_that_is_gone_counts_for_nobody() -> None:
    ledger = Ledger()
    ledger.write(place(), 0, 0)
    with pytest.raises(BankError, match="Chunk 9 is not in the bank"):
        ledger.trigger([0, 9])
    assert ledger.get(0).trigger_count == 0


def test_decayed_counts_halve_every_half_life() -> None:
    ledger = Ledger(half_life=4)
    ledger.write(place(), 0, 0)
    ledger.trigger([0])
    ledger.trigger([0])
    for _ in range(4):
        ledger.write(place(), 0, 0)
    assert math.isclose(ledger.decayed_count(ledger.get(0)), 1.0)
    ledger.trigger([0])
    assert math.isclose(ledger.decayed_count(ledger.get(0)), 2.0)
    assert ledger.decayed_count(ledger.get(1)) == 0.0


def test_an_id_is_held_once() -> None:
    ledger = Ledger()
    record = ledger.write(place(), 0, 0)
    with pytest.raises(BankError, match="in the bank already"):
        ledger.add(record)
    assert ledger.tokens == 10


def test_a_restored_record_moves_the_clock_past_itself() -> None:
    ledger = Ledger()
    ledger.add(ChunkRecord(41, 0, (0, 1), 10, 0, slot=0, written_step=0, written_order=41))
    assert ledger.write(place(), 0, 0).chunk_id == 42


def test_a_copy_goes_its_own_way() -> None:
    ledger = Ledger(half_life=9)
    for _ in range(3):
        ledger.write(place(), 0, 0)
    ledger.pin(2)
    twin = ledger.copy()
    twin.trigger([0])
    twin.remove(1)
    assert ledger.get(0).trigger_count == 0
    assert len(ledger) == 3
    assert (twin.half_life, twin.clock, twin.pinned_tokens) == (9, 3, 10)


def test_a_half_life_is_at_least_one_chunk() -> None:
    with pytest.raises(BankError, match="half_life=0"):
        Ledger(half_life=0)
