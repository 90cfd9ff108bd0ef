"""Who leaves first: a heap that is corrected when it is looked at, so that counting a trigger costs nothing
here.

Taking the lowest of n chunks costs O(log n) on average. It rests on one promise: a chunk's key never falls.
Then an entry that is out of date stands too far in front, is met before its turn, and is put back under its
true key.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memlong.bank.ledger import ChunkRecord

Key = Callable[["ChunkRecord"], tuple[float, ...]]
"""Orders chunks, the lowest leaves first. Unique (ends with ``written_order``), and may only grow."""


class LowestFirst:
    """The unpinned chunks of a ledger, lowest key first.

    Args:
        key: the order. records: the ledger's own mapping, by chunk id; read, never changed.
    """

    def __init__(self, key: Key, records: Mapping[int, ChunkRecord]) -> None:
        self.key, self.records = key, records
        self._heap: list[tuple[tuple[float, ...], int]] = []
        self._rebuild()

    def push(self, record: ChunkRecord) -> None:
        """Line up a chunk that is new, restored or no longer pinned."""
        # Entries of chunks that left by another way would pile up; two thirds of waste is the most that is
        # kept.
        if len(self._heap) > 3 * len(self.records) + 64:
            self._rebuild()
        else:
            heapq.heappush(self._heap, (self.key(record), record.chunk_id))

    def take(self, tokens: int, chunks: int) -> list[ChunkRecord]:
        """Return the lowest chunks that together hold at least so many tokens and are at least so many.

        All there are, when they are not enough. They stay in line until the ledger drops them, so asking
        twice gives the same answer.
        """
        taken: dict[int, ChunkRecord] = {}
        while self._heap and (tokens > 0 or chunks > 0):
            key, chunk_id = heapq.heappop(self._heap)
            record = self.records.get(chunk_id)
            if record is None or record.pinned or chunk_id in taken:
                continue
            if (now := self.key(record)) != key:
                heapq.heappush(self._heap, (now, chunk_id))
                continue
            taken[chunk_id] = record
            tokens, chunks = tokens - record.n_tokens, chunks - 1
        self._put_back(taken.values())
        return list(taken.values())

    def _put_back(self, records: Iterable[ChunkRecord]) -> None:
        for record in records:
            heapq.heappush(self._heap, (self.key(record), record.chunk_id))

    def _rebuild(self) -> None:
        self._heap = [(self.key(record), id) for id, record in self.records.items() if not record.pinned]
        heapq.heapify(self._heap)
