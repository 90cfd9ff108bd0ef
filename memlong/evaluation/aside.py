"""A session that borrows another one's memory: it answers from it, and leaves no mark in it.

Counterfactuals need this: a question asked only to compare must not count as a trigger, appear in the trace, or be
part of the conversation.

Shapes: S stored layers, N chunks, G key/value heads, C chunk tokens, D head size, Q queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from memlong.bank.bank import Bank
from memlong.bank.capacity import Capacity
from memlong.bank.ledger import ChunkRecord, Ledger
from memlong.bank.results import Hit
from memlong.bank.store import GatheredKV, KVStore
from memlong.index.base import Vectors
from memlong.index.faiss import FlatIndex
from memlong.session.session import Session

LENT_CHUNKS = 8  # that left the lender's bank and may be back at the same time
_FAR = 1 << 40  # chunks written here are numbered from there: the lender goes on counting meanwhile


class BorrowedBank(Bank):
    """A bank whose chunks are another one's, read where they lie. Triggers are counted here alone.

    What is written or restored goes into a small store of its own. The lender may change between two calls.

    Args:
        lender: whose chunks are held.
    """

    def __init__(self, lender: Bank) -> None:
        store = lender.store
        own = KVStore(LENT_CHUNKS + 2, store.shape, store.dtype, store.device, store.scale_dtype)
        capacity = Capacity.of(LENT_CHUNKS * store.shape.chunk_tokens, store.shape.chunk_tokens)
        super().__init__(own, FlatIndex(lender.index.dim), capacity, "fifo", Ledger(clock=_FAR))
        self.lender = lender
        self._triggers: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.ledger) + len(self.lender)

    def __contains__(self, chunk_id: object) -> bool:
        return chunk_id in self.ledger or chunk_id in self.lender

    def get(self, chunk_id: int) -> ChunkRecord:
        """Return a copy of the record of a held chunk, with the triggers counted here; BankError when not held."""
        record = (self.ledger if chunk_id in self.ledger else self.lender).get(chunk_id)
        return replace(record, trigger_count=record.trigger_count + self._triggers[chunk_id])

    def records(self) -> list[ChunkRecord]:
        """Return copies of all records, by rising chunk id."""
        held = {record.chunk_id for record in (*self.lender.records(), *self.ledger.records())}
        return [self.get(chunk_id) for chunk_id in sorted(held)]

    def embedding(self, chunk_id: int) -> Vectors:
        """Return the embedding [E] of a held chunk."""
        return self.index.vector(chunk_id) if chunk_id in self.ledger else self.lender.embedding(chunk_id)

    def mean_squares(self) -> np.ndarray:
        """Return the mean [E] of the squares over both: what is rare decides how a question's words are weighed."""
        mine, its = len(self.ledger), len(self.lender)
        if not mine:
            return self.lender.mean_squares()
        both_E: np.ndarray = (mine * super().mean_squares() + its * self.lender.mean_squares()) / (mine + its)
        return both_E.astype(np.float32)

    def search_many(
        self,
        queries_QE: Vectors,
        top_k: int,
        documents: Collection[int] | None = None,
        exclude: Collection[int] = (),
    ) -> list[list[Hit]]:
        """Return the best chunks of both stores for several queries at once."""
        found = self.lender.search_many(queries_QE, top_k, documents, exclude)
        if not len(self.ledger):
            return found
        mine = super().search_many(queries_QE, top_k, documents, exclude)
        return [
            sorted({*first, *second}, key=lambda hit: (-hit.score, hit.chunk_id))[:top_k]
            for first, second in zip(found, mine, strict=True)
        ]

    def trigger(self, chunk_ids: Iterable[int], step: int = -1) -> None:
        """Count one trigger for each of these chunks, here; the lender's counts stay."""
        del step
        self._triggers.update(self.get(chunk_id).chunk_id for chunk_id in list(chunk_ids))

    def gather(
        self,
        chunk_ids: Sequence[int],
        out_dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> GatheredKV:
        """Fetch the K-V of chunks, in the given order, from wherever each lies."""
        if not any(chunk_id in self.ledger for chunk_id in chunk_ids):
            return self.lender.gather(chunk_ids, out_dtype, device)
        parts = [
            super(BorrowedBank, self).gather([chunk_id], out_dtype, device)
            if chunk_id in self.ledger
            else self.lender.gather([chunk_id], out_dtype, device)
            for chunk_id in chunk_ids
        ]
        return GatheredKV(
            torch.cat([part.keys_SNGCD for part in parts], dim=1),
            torch.cat([part.values_SNGCD for part in parts], dim=1),
        )

    def lengths(self, chunk_ids: Sequence[int]) -> list[int]:
        """Return the tokens of each chunk."""
        return [self.get(chunk_id).n_tokens for chunk_id in chunk_ids]


def aside(session: Session) -> Session:
    """Return a session that answers from this one's memory, documents and conversation, and changes none of them.

    It may be used while the other one reads on. Chunks that left can be brought back in it alone
    (:meth:`Session.restore` without a pin), up to ``LENT_CHUNKS`` at a time.
    """
    made = Session(session.model, session.retriever, session.config, bank=BorrowedBank(session.bank))
    # What spills out of the local context is added to a document; here to a copy of it.
    made.documents = {
        doc_id: document if doc_id in session.readings else replace(document)
        for doc_id, document in list(session.documents.items())
    }
    made.readings, made.gone = dict(session.readings), dict(session.gone)
    made.layers.at_once = False  # nobody reads its trace
    made.turns, made.speed = list(session.turns), session.speed
    return made
