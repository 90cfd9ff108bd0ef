"""The bank's books: which chunks are held, where they lie, how often each was triggered. No tensors.

Time is counted in chunks: the ledger's *clock* is the number of chunks ever written.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

from memlong.bank.queue import Key, LowestFirst
from memlong.errors import BankError

DEFAULT_HALF_LIFE = 256  # chunks; 65,536 tokens of 256-token chunks, half a default bank


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where a chunk stands in its document.

    Attributes:
        doc_id: the document. index_in_doc: 0, 1, 2 ... within it.
        span: (start, end) character offsets into the document's text.
        n_tokens: its length; the last chunk of a document may be short.
    """

    doc_id: int
    index_in_doc: int
    span: tuple[int, int]
    n_tokens: int


@dataclass(slots=True)
class ChunkRecord:
    """What the bank knows about one chunk.

    Attributes:
        chunk_id: counts up from 0 in one session, never reused.
        doc_id, span, n_tokens, index_in_doc: see :class:`ChunkPlace`.
        slot: row of the K-V store.
        written_step: event clock of the session when it was written.
        written_order: the ledger's clock when it was written, so its place among all chunks ever written.
        trigger_count: times it was among the top-k.
        last_trigger: the ledger's clock at its last trigger, -1 before the first.
        last_step: event clock of the session at its last trigger, -1 before the first.
        decayed: its trigger count as of ``last_trigger``, halved every half-life in between.
        pinned: whether it may not be evicted.
    """

    chunk_id: int
    doc_id: int
    span: tuple[int, int]
    n_tokens: int
    index_in_doc: int
    slot: int
    written_step: int
    written_order: int
    trigger_count: int = 0
    last_trigger: int = -1
    last_step: int = -1
    decayed: float = 0.0
    pinned: bool = False


class Ledger:
    """All records by chunk id. Every change costs the same however many chunks are held.

    Args:
        half_life: chunks written until a trigger counts half, for decayed counts.
        clock: chunks ever written before this ledger began (a saved bank goes on counting).

    Attributes:
        clock: chunks ever written. tokens: tokens held.
        pinned_tokens, pinned_chunks: how much of that may not be evicted.
    """

    def __init__(self, half_life: int = DEFAULT_HALF_LIFE, clock: int = 0) -> None:
        if half_life < 1:
            raise BankError(f"half_life={half_life}", "A whole number of chunks from 1", "Raise half_life")
        self.half_life, self.clock = half_life, clock
        self.tokens = self.pinned_tokens = self.pinned_chunks = 0
        self._records: dict[int, ChunkRecord] = {}
        self._documents: dict[int, set[int]] = {}
        self._in_order = True
        self._queue: LowestFirst | None = None

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, chunk_id: object) -> bool:
        return chunk_id in self._records

    def get(self, chunk_id: int) -> ChunkRecord:
        """Return the record of a held chunk.

        Raises:
            BankError: when the bank does not hold it.
        """
        record = self._records.get(chunk_id)
        if record is None:
            raise BankError(
                f"Chunk {chunk_id!r} is not in the bank",
                f"The bank holds {len(self)} chunks; a chunk leaves it when it is evicted or deleted",
                "Choose a chunk that is held, or restore this one first",
            )
        return record

    def records(self) -> list[ChunkRecord]:
        """Return all records, by rising chunk id."""
        if not self._in_order:
            ordered = sorted(self._records.items())
            self._records.clear()  # in place: the queue looks into this very mapping
            self._records.update(ordered)
            self._in_order = True
        return list(self._records.values())

    def documents(self) -> Set[int]:
        """Return the ids of all documents that have a chunk here."""
        return self._documents.keys()

    def of_document(self, doc_id: int) -> Set[int]:
        """Return the ids of a document's held chunks; empty for a document that has none."""
        return self._documents.get(doc_id, set())

    def write(self, place: ChunkPlace, slot: int, step: int) -> ChunkRecord:
        """Enter a new chunk under the next id and advance the clock."""
        record = ChunkRecord(
            self.clock, place.doc_id, place.span, place.n_tokens, place.index_in_doc, slot, step, self.clock
        )
        self.add(record)
        return record

    def add(self, record: ChunkRecord) -> None:
        """Enter a record that has its id already: one restored, loaded or replayed.

        Raises:
            BankError: when a chunk of this id is held.
        """
        if record.chunk_id in self._records:
            raise BankError(
                f"Chunk {record.chunk_id} is in the bank already", "Every id is held once", "Delete it first"
            )
        if self._in_order and self._records and record.chunk_id < next(reversed(self._records)):
            self._in_order = False
        self._records[record.chunk_id] = record
        self._documents.setdefault(record.doc_id, set()).add(record.chunk_id)
        self.clock = max(self.clock, record.written_order + 1, record.chunk_id + 1)
        self.tokens += record.n_tokens
        if record.pinned:
            self._count_pinned(record, +1)
        elif self._queue is not None:
            self._queue.push(record)

    def remove(self, chunk_id: int) -> ChunkRecord:
        """Take a record out and return it; pinned or not, for that is asked before."""
        record = self.get(chunk_id)
        del self._records[chunk_id]
        self._documents[record.doc_id].discard(chunk_id)
        if not self._documents[record.doc_id]:
            del self._documents[record.doc_id]
        self.tokens -= record.n_tokens
        if record.pinned:
            self._count_pinned(record, -1)
        return record

    def trigger(self, chunk_ids: Iterable[int], step: int = -1) -> None:
        """Count one trigger for each of these chunks; all of them or, when one is not held, none."""
        for record in [self.get(chunk_id) for chunk_id in chunk_ids]:
            record.decayed = self.decayed_count(record) + 1.0
            record.trigger_count += 1
            record.last_trigger, record.last_step = self.clock, step

    def decayed_count(self, record: ChunkRecord) -> float:
        """Return the record's trigger count, each trigger halved for every half-life since it happened."""
        if record.decayed == 0.0:
            return 0.0
        return float(record.decayed * 2.0 ** ((record.last_trigger - self.clock) / self.half_life))

    def pin(self, chunk_id: int) -> None:
        """Protect a chunk from eviction; pinning twice changes nothing."""
        record = self.get(chunk_id)
        if not record.pinned:
            record.pinned = True
            self._count_pinned(record, +1)

    def unpin(self, chunk_id: int) -> None:
        """Let a chunk be evicted again; unpinning twice changes nothing."""
        record = self.get(chunk_id)
        if record.pinned:
            record.pinned = False
            self._count_pinned(record, -1)
            if self._queue is not None:
                self._queue.push(record)

    def lowest_first(self, key: Key) -> LowestFirst:
        """Return the unpinned chunks by rising ``key``; the queue is kept while the key stays the same."""
        if self._queue is None or self._queue.key != key:
            self._queue = LowestFirst(key, self._records)
        return self._queue

    def copy(self) -> Ledger:
        """Return an independent ledger with the same content, to try a policy on."""
        twin = Ledger(self.half_life, self.clock)
        for record in self.records():
            twin.add(replace(record))
        return twin

    def _count_pinned(self, record: ChunkRecord, sign: int) -> None:
        self.pinned_tokens += sign * record.n_tokens
        self.pinned_chunks += sign
