"""Replaying a trace gives the very bank that was recorded, at every step."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memlong.bank.bank import Bank
from memlong.bank.capacity import Capacity
from memlong.bank.ledger import ChunkPlace, ChunkRecord
from memlong.bank.results import Eviction
from memlong.bank.store import KVShape, KVStore
from memlong.errors import PersistError
from memlong.trace import events
from memlong.trace.recorder import Recorder
from memlong.trace.replay import Replayer, ReplayState, rebuild
from tests.memlong.index.exact import ExactIndex

DIM = 4
Snapshot = tuple[dict[int, tuple[object, ...]], set[int], set[int], int]


class LiveBank:
    """A bank driven at random, with every change recorded as a session records it."""

    def __init__(self, policy: str, capacity_tokens: int = 30) -> None:
        store = KVStore(Capacity.of(capacity_tokens, 3).slots + 8, KVShape(1, 1, 3, 2), "float32")
        self.bank = Bank(store, ExactIndex(DIM), Capacity.of(capacity_tokens, 3), policy)
        self.recorder = Recorder()
        self.gone: dict[int, ChunkRecord] = {}
        self.evicted: set[int] = set()
        self.snapshots: list[Snapshot] = []
        self._record(events.CapacityChanged(capacity_tokens, policy))

    def write(self, number: int) -> None:
        tokens, doc_id = number % 3 + 1, number % 4
        vector = np.random.default_rng(number).normal(size=DIM).astype(np.float32)
        keys = torch.zeros(1, 1, tokens, 2)
        place = ChunkPlace(doc_id, number, (number, number + 5), tokens)
        if not self.bank.spare_slots:  # as reading does: what was brought back may have taken the last one
            self._evict()
        if self._room(tokens):
            record = self.bank.write(place, vector, keys, keys, self.recorder.step)
            self._record(events.ChunkWritten(record.chunk_id, doc_id, number, place.span, tokens, 0))
        self._evict()

    def _evict(self) -> None:
        for eviction in self.bank.policy.choose(self.bank.ledger, self.bank.capacity):
            record = self.bank.delete(eviction.chunk_id)
            self._left(Eviction(record, self.bank.policy.name, eviction.rule, 0, 0, 0, 0))

    def retrieve(self, number: int) -> None:
        query = np.random.default_rng(number).normal(size=DIM).astype(np.float32)
        found = self.bank.search(query, number % 4)
        self.bank.trigger([hit.chunk_id for hit in found], self.recorder.step)
        hits = tuple(
            events.Hit(hit.chunk_id, hit.score, rank, self.bank.get(hit.chunk_id).trigger_count)
            for rank, hit in enumerate(found)
        )
        self._record(events.Retrieved("question", number, None, hits))

    def pin(self, number: int) -> None:
        record = self._pick(number)
        if record and not record.pinned and self._room(record.n_tokens):
            self.bank.pin(record.chunk_id)
            self._record(events.Pinned(record.chunk_id))
        elif record and record.pinned:
            self.bank.unpin(record.chunk_id)
            self._record(events.Unpinned(record.chunk_id))

    def delete(self, number: int) -> None:
        if record := self._pick(number):
            self.gone[record.chunk_id] = self.bank.delete(record.chunk_id)
            self._record(events.Deleted(record.chunk_id))

    def restore(self, number: int) -> None:
        if not self.gone or not self.bank.spare_slots:
            return
        chunk_id = sorted(self.gone)[number % len(self.gone)]
        record = self.gone[chunk_id]
        if self._room(record.n_tokens):
            del self.gone[chunk_id]
            self.evicted.discard(chunk_id)
            keys = torch.zeros(1, 1, record.n_tokens, 2)
            self.bank.restore(record, np.ones(DIM, np.float32), keys, keys)
            place = (record.doc_id, record.index_in_doc, record.span, record.n_tokens)
            self._record(events.Restored(chunk_id, *place, record.trigger_count))

    def remove(self, number: int) -> None:
        for record in self.bank.delete_document(number % 4):
            self.gone[record.chunk_id] = record
        self._record(events.DocumentClosed(number % 4, "removed", 0, 0.0))

    def _room(self, tokens: int) -> bool:
        ledger = self.bank.ledger
        return self.bank.capacity.fits(ledger.pinned_tokens + tokens, ledger.pinned_chunks + 1)

    def _pick(self, number: int) -> ChunkRecord | None:
        records = self.bank.records()
        return records[number % len(records)] if records else None

    def _left(self, eviction: Eviction) -> None:
        record = eviction.record
        self.gone[record.chunk_id] = record
        self.evicted.add(record.chunk_id)
        self._record(
            events.Evicted(
                record.chunk_id, record.doc_id, eviction.policy, eviction.rule, record.trigger_count, 0, 0, 0
            )
        )

    def _record(self, event: events.Event) -> None:
        self.recorder.append(event)
        chunks = {
            r.chunk_id: (
                r.doc_id,
                r.index_in_doc,
                r.span,
                r.n_tokens,
                r.trigger_count,
                r.pinned,
                r.written_step,
            )
            for r in self.bank.records()
        }
        deleted = self.gone.keys() - self.evicted
        self.snapshots.append((chunks, set(self.evicted), set(deleted), self.bank.tokens))


def seen(state: ReplayState) -> Snapshot:
    chunks = {chunk_id: tuple(view) for chunk_id, view in state.chunks.items()}
    return chunks, set(state.evicted), set(state.deleted), state.occupancy_tokens


ACTIONS = ["write"] * 6 + ["retrieve"] * 4 + ["pin", "pin", "delete", "restore", "restore", "remove"]


@given(
    policy=st.sampled_from(["trigger_count", "lru", "fifo", "decayed_count", "trigger_bands"]),
    seed=st.integers(0, 10**6),
    every=st.integers(1, 20),
)
@example(policy="trigger_count", seed=8476, every=1)  # so many come back that no slot is left
@settings(max_examples=30, deadline=None)
def test_equals_the_live_bank_at_every_step(policy: str, seed: int, every: int) -> None:
    live, chance = LiveBank(policy), Random(seed)
    for _ in range(120):
        getattr(live, chance.choice(ACTIONS))(chance.randrange(100))
    trace = Recorder.from_jsonl(live.recorder.to_jsonl()).events
    replayer = Replayer(trace, every)
    backwards = reversed(list(enumerate(live.snapshots)))
    for step, snapshot in backwards:
        assert seen(replayer.at(step)) == snapshot
    assert seen(rebuild(trace)) == live.snapshots[-1]
    middle = len(trace) // 2
    assert rebuild(trace, middle) == replayer.at(middle)


def written(chunk_id: int, doc_id: int = 0) -> events.ChunkWritten:
    return events.ChunkWritten(chunk_id, doc_id, chunk_id, (0, 9), 8, 0)


def record(*happened: events.Event) -> Recorder:
    recorder = Recorder()
    for event in happened:
        recorder.append(event)
    return recorder


def test_documents_go_from_reading_to_their_end() -> None:
    recorder = record(
        events.DocumentOpened(0, "A", 100, 2, 400),
        written(0),
        events.DocumentClosed(0, "done", 1, 0.5),
        events.DocumentClosed(0, "removed", 1, 0.5),
    )
    replayer = Replayer(recorder.events)
    assert [replayer.at(step).documents[0].status for step in range(4)] == [
        "reading",
        "reading",
        "done",
        "removed",
    ]
    assert replayer.at(3).deleted[0].rule == "its document was removed"
    assert replayer.at(3).occupancy_tokens == 0


def test_who_left_says_when_and_why() -> None:
    recorder = record(
        events.CapacityChanged(8, "fifo"),
        written(0),
        events.Retrieved("question", 0, None, (events.Hit(0, 0.5, 0, 1),)),
        events.Evicted(0, 0, "fifo", "oldest first", 1, 1, 16, 8),
    )
    state = rebuild(recorder.events)
    departure = state.evicted[0]
    assert (departure.step, departure.rule, departure.chunk.trigger_count) == (3, "oldest first", 1)
    assert (state.capacity_tokens, state.policy, state.step) == (8, "fifo", 3)


def test_a_restored_chunk_remembers_when_it_was_written() -> None:
    recorder = record(written(0), events.Deleted(0), events.Restored(0, 0, 0, (0, 9), 8, 5))
    state = rebuild(recorder.events)
    assert state.chunks[0].written_step == 0
    assert state.chunks[0].trigger_count == 5
    assert state.deleted == {}


def test_before_the_first_event_and_behind_the_last() -> None:
    recorder = record(written(0), written(1))
    replayer = Replayer(recorder.events)
    assert replayer.at(-1) == rebuild(recorder.events, -1) == ReplayState()
    assert replayer.at(99) == rebuild(recorder.events)


def test_a_state_belongs_to_the_caller() -> None:
    replayer = Replayer(record(*map(written, range(10))).events, every=2)
    replayer.at(9).chunks.clear()
    replayer.at(3).chunks.clear()
    assert len(replayer.at(9).chunks) == 10
    assert len(replayer.at(3).chunks) == 4


def test_a_trace_may_grow_while_it_is_replayed() -> None:
    happened = record(*map(written, range(5))).events
    replayer = Replayer(happened, every=3)
    assert len(replayer.at(99).chunks) == 5
    happened += [events.ChunkWritten(n, 0, n, (0, 9), 8, 0, step=n) for n in range(5, 20)]
    assert len(replayer.at(99).chunks) == 20
    assert len(replayer.at(6).chunks) == 7


def test_a_jump_replays_few_events_of_a_long_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    replayer = Replayer(record(*map(written, range(5000))).events, every=500)
    replayer.at(4999)
    applied = 0
    real = ReplayState.apply

    def apply(state: ReplayState, event: events.Event) -> None:
        nonlocal applied
        applied += 1
        real(state, event)

    monkeypatch.setattr(ReplayState, "apply", apply)
    for step in (4321, 17, 2600):
        assert len(replayer.at(step).chunks) == step + 1
    assert applied < 3 * 500


def test_the_states_kept_stay_few_however_long_the_trace() -> None:
    replayer = Replayer(record(*map(written, range(1000))).events, every=1)
    for step in (999, 0, 500, 63, 64, 998):
        assert len(replayer.at(step).chunks) == step + 1
    assert len(replayer._kept) <= 65


@pytest.mark.parametrize(
    "event",
    [
        events.Deleted(7),
        events.Pinned(7),
        events.Unpinned(7),
        events.Evicted(7, 0, "fifo", "oldest first", 0, 0, 0, 0),
        events.Retrieved("question", 0, None, (events.Hit(7, 0.5, 0, 1),)),
    ],
    ids=lambda event: event.kind,
)
def test_a_trace_with_a_part_missing_is_refused(event: events.Event) -> None:
    with pytest.raises(PersistError, match="at step 1 speaks of chunk 7"):
        rebuild(record(written(0), event).events)
