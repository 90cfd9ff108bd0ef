"""The bank: ledger, K-V store and vector index, kept in step under one chunk id.

Shapes: E embedding size, S stored layers, G key/value heads, T <= C tokens of a chunk, D head size,
Q queries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from memlong.bank.capacity import Capacity
from memlong.bank.eviction import Policy, Victim, make_policy
from memlong.bank.ledger import ChunkPlace, ChunkRecord, Ledger
from memlong.bank.memory import require_memory
from memlong.bank.results import Eviction, Hit
from memlong.bank.store import GatheredKV, KVShape, KVStore
from memlong.errors import BankError
from memlong.index.base import Found, VectorIndex, Vectors, checked_vectors
from memlong.index.faiss import FlatIndex

SPARE_SLOTS = 32  # chunks that may be written between two evictions


class Bank:
    """All stored chunks of one session.

    Writing and evicting one chunk cost the same however many are held. Writing never evicts: call
    :meth:`evict` when a window is done; ``store.slots - capacity.slots`` chunks may be written in between.

    Args:
        store: its slots beyond ``capacity.slots`` are the spare ones. index: of the embedding size in use;
            empty.
        capacity: what may be held after evicting.
        policy: chooses who leaves; see ``eviction.POLICIES`` for the names.
        ledger: the books; a new one by default.

    Raises:
        BankError: when the capacity does not fit the store.
    """

    def __init__(
        self,
        store: KVStore,
        index: VectorIndex,
        capacity: Capacity,
        policy: str | Policy = "trigger_count",
        ledger: Ledger | None = None,
    ) -> None:
        if store.slots <= capacity.slots or capacity.tokens < store.shape.chunk_tokens:
            raise BankError(
                f"A store of {store.slots} slots of {store.shape.chunk_tokens} tokens for {capacity}",
                "More slots than the capacity's, for new chunks; tokens for one chunk or more",
                "Use Bank.create, which works out the slots",
            )
        self.store, self.index, self.capacity = store, index, capacity
        self.ledger = Ledger() if ledger is None else ledger
        self.policy = make_policy(policy) if isinstance(policy, str) else policy
        self._free = list(range(store.slots - 1, -1, -1))  # low slots first: high ones may never be touched

    @classmethod
    def create(
        cls,
        shape: KVShape,
        embedding_dim: int,
        capacity: int | Capacity,
        policy: str = "trigger_count",
        dtype: str = "bfloat16",
        device: torch.device | str = "cpu",
    ) -> Bank:
        """Return an empty bank with a faiss index, after a look at the memory that is free.

        Args:
            capacity: in tokens, with slots for full chunks, or both.

        Raises:
            BankError: when it does not fit into the memory, or a name is unknown.
        """
        if isinstance(capacity, int):
            capacity = Capacity.of(capacity, shape.chunk_tokens)
        needed = cls.estimate_bytes(shape, embedding_dim, capacity, dtype)
        require_memory(needed, capacity.tokens, device)
        store = KVStore(capacity.slots + SPARE_SLOTS, shape, dtype, device)
        return cls(store, FlatIndex(embedding_dim), capacity, policy)

    @staticmethod
    def estimate_bytes(shape: KVShape, embedding_dim: int, capacity: int | Capacity, dtype: str = "bfloat16") -> int:
        """Return the bytes a full bank takes, spare slots and embeddings included, before one is made."""
        if isinstance(capacity, int):
            capacity = Capacity.of(capacity, shape.chunk_tokens)
        slots = capacity.slots + SPARE_SLOTS
        return slots * (shape.chunk_tokens * shape.bytes_per_token(dtype) + 4 * embedding_dim)

    def __len__(self) -> int:
        return len(self.ledger)

    def __contains__(self, chunk_id: object) -> bool:
        return chunk_id in self.ledger

    @property
    def tokens(self) -> int:
        """Tokens held."""
        return self.ledger.tokens

    @property
    def nbytes(self) -> int:
        """Bytes set aside for K-V, plus those of the embeddings held."""
        return self.store.nbytes + 4 * self.index.dim * len(self.index)

    @property
    def spare_slots(self) -> int:
        """Chunks that may still be written before an eviction is due."""
        return len(self._free)

    def get(self, chunk_id: int) -> ChunkRecord:
        """Return the record of a held chunk; BankError when it is not held."""
        return self.ledger.get(chunk_id)

    def records(self) -> list[ChunkRecord]:
        """Return all records, by rising chunk id."""
        return self.ledger.records()

    def embedding(self, chunk_id: int) -> Vectors:
        """Return the embedding [E] of a held chunk."""
        return self.index.vector(chunk_id)

    def write(
        self, place: ChunkPlace, embedding_E: Vectors, keys_SGTD: Tensor, values_SGTD: Tensor, step: int = -1
    ) -> ChunkRecord:
        """Store a new chunk under the next id. Never evicts.

        Args:
            place: of the chunk in its document, ``n_tokens`` = T. step: event clock of the session.

        Raises:
            BankError: when shapes do not fit, pinned chunks leave no room, or no slot is free; then nothing
                changed.
        """
        slot = self._fill_slot(place.n_tokens, keys_SGTD, values_SGTD, self.ledger.clock, embedding_E)
        return self.ledger.write(place, slot, step)

    def restore(
        self,
        record: ChunkRecord,
        embedding_E: Vectors,
        keys_SGTD: Tensor,
        values_SGTD: Tensor,
        pinned: bool = False,
    ) -> ChunkRecord:
        """Bring back a chunk that left, under its old id, with its old counts and age.

        It is as likely to leave as it was: ask for ``pinned`` to keep it.

        Raises:
            BankError: as for :meth:`write`, or when the chunk is held.
        """
        if record.chunk_id in self:
            given = f"Chunk {record.chunk_id} is in the bank"
            raise BankError(given, "Only chunks that left it can be restored", "Nothing needs doing")
        slot = self._fill_slot(record.n_tokens, keys_SGTD, values_SGTD, record.chunk_id, embedding_E)
        restored = replace(record, slot=slot, pinned=pinned)
        self.ledger.add(restored)
        return restored

    def evict(self, step: int = -1) -> list[Eviction]:
        """Let chunks go until the bank fits its capacity; nothing happens when it does.

        Raises:
            BankError: when it cannot fit because too much is pinned.
        """
        return [self._evict(victim, step) for victim in self.policy.choose(self.ledger, self.capacity)]

    def search(
        self,
        query_E: Vectors,
        top_k: int,
        documents: Collection[int] | None = None,
        exclude: Collection[int] = (),
    ) -> list[Hit]:
        """Return the chunks whose embeddings have the largest inner products with the query, best first.

        Equal scores go by smaller id. Counts are left alone: see :meth:`trigger`.

        Args:
            documents: only chunks of these; None asks all. exclude: chunk ids that may not be found.
        """
        return self.search_many(np.asarray(query_E)[None], top_k, documents, exclude)[0]

    def search_many(
        self,
        queries_QE: Vectors,
        top_k: int,
        documents: Collection[int] | None = None,
        exclude: Collection[int] = (),
    ) -> list[list[Hit]]:
        """Return what :meth:`search` does, for several queries at once."""
        among = self._among(documents)
        return [_hits(found) for found in self.index.search(queries_QE, top_k, among, exclude)]

    def trigger(self, chunk_ids: Iterable[int], step: int = -1) -> None:
        """Count one trigger for each of these chunks."""
        self.ledger.trigger(chunk_ids, step)

    def pin(self, chunk_id: int) -> ChunkRecord:
        """Protect a chunk from eviction.

        Raises:
            BankError: when pinned chunks would exceed the capacity.
        """
        record = self.ledger.get(chunk_id)
        if not record.pinned:
            self.capacity.refuse_pinned(self.ledger, record.n_tokens, 1)
        self.ledger.pin(chunk_id)
        return record

    def unpin(self, chunk_id: int) -> ChunkRecord:
        """Let a chunk be evicted again."""
        self.ledger.unpin(chunk_id)
        return self.ledger.get(chunk_id)

    def delete(self, chunk_id: int) -> ChunkRecord:
        """Remove a chunk by request, pinned or not, and return its record."""
        record = self.ledger.remove(chunk_id)
        self.index.remove([chunk_id])
        self._free.append(record.slot)
        return record

    def delete_document(self, doc_id: int) -> list[ChunkRecord]:
        """Remove all chunks of a document and return their records; none for an unknown one."""
        return [self.delete(chunk_id) for chunk_id in sorted(self.ledger.of_document(doc_id))]

    def clear(self) -> None:
        """Remove all chunks; ids go on from where they were."""
        for record in self.records():
            self.delete(record.chunk_id)
        self._free.sort(reverse=True)

    def gather(
        self,
        chunk_ids: Sequence[int],
        out_dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> GatheredKV:
        """Fetch the K-V of chunks, in the given order; see :meth:`KVStore.gather`."""
        slots = [self.ledger.get(chunk_id).slot for chunk_id in chunk_ids]
        return self.store.gather(slots, out_dtype, device)

    def lengths(self, chunk_ids: Sequence[int]) -> list[int]:
        """Return the tokens of each chunk."""
        return [self.ledger.get(chunk_id).n_tokens for chunk_id in chunk_ids]

    def mean_squares(self) -> np.ndarray:
        """Return the mean [E] of the squares of each number over all embeddings held."""
        return self.index.mean_squares()

    def set_policy(self, policy: str | Policy) -> None:
        """Let another policy choose from now on; counts are kept."""
        self.policy = make_policy(policy) if isinstance(policy, str) else policy

    def set_capacity(self, capacity_tokens: int, step: int = -1) -> list[Eviction]:
        """Grow or shrink, evicting first when less fits; memory is taken or given back accordingly.

        Raises:
            BankError: when pinned chunks would not fit, or memory for the larger store is missing; then
                nothing changed.
        """
        capacity = self.capacity.changed(capacity_tokens, self.store.shape.chunk_tokens)
        capacity.refuse_pinned(self.ledger)
        slots = capacity.slots + self.store.slots - self.capacity.slots
        if slots > self.store.slots:
            per_slot = self.store.nbytes // self.store.slots
            require_memory(slots * per_slot, capacity_tokens, self.store.device)
        self.capacity = capacity
        evicted = self.evict(step)
        if slots != self.store.slots:
            records = self.records()
            moved = self.store.resize(slots, [record.slot for record in records])
            for record in records:
                record.slot = moved[record.slot]
            self._free = list(range(slots - 1, len(records) - 1, -1))
        return evicted

    def adopt(self, records: Sequence[ChunkRecord], embeddings_NE: Vectors) -> None:
        """Enter chunks whose K-V lie in slots 0, 1, 2 ... already, in this order: how a saved bank is filled.

        Raises:
            BankError: when the bank is not empty, or ids or embeddings do not fit; then the bank is of no
                use.
        """
        if len(self):
            raise BankError("A bank that holds chunks", "An empty one", "Make a new bank")
        self.index.add([record.chunk_id for record in records], embeddings_NE)
        for record in records:
            self.ledger.add(replace(record, slot=self._free.pop()))

    def _fill_slot(
        self, n_tokens: int, keys_SGTD: Tensor, values_SGTD: Tensor, chunk_id: int, embedding_E: Vectors
    ) -> int:
        """Check everything, then take a slot and fill it and the index."""
        self.store.check(keys_SGTD, values_SGTD)
        embedding_1E = checked_vectors(np.asarray(embedding_E)[None], self.index.dim, 1)
        if keys_SGTD.shape[2] != n_tokens:
            given = f"K-V of {keys_SGTD.shape[2]} tokens for a chunk of {n_tokens}"
            raise BankError(given, "As many as the chunk has", "Read the chunk anew")
        self.capacity.refuse_pinned(self.ledger, n_tokens, 1)
        if not self._free:
            raise BankError(
                f"No slot is free: {len(self)} chunks are held, {self.capacity.slots} may stay",
                f"{self.store.slots - self.capacity.slots} chunks may be written between two evictions",
                "Evict after each window, or read fewer windows at a time",
            )
        slot = self._free[-1]
        self.store.write(slot, keys_SGTD, values_SGTD)
        self.index.add([chunk_id], embedding_1E)
        self._free.pop()
        return slot

    def _evict(self, victim: Victim, step: int) -> Eviction:
        occupancy = self.tokens
        record = self.delete(victim.chunk_id)
        age = self.ledger.clock - record.written_order
        return Eviction(record, self.policy.name, victim.rule, age, occupancy, self.capacity.tokens, step)

    def _among(self, documents: Collection[int] | None) -> Set[int] | None:
        if documents is None or self.ledger.documents() <= set(documents):
            return None
        return set().union(*(self.ledger.of_document(doc_id) for doc_id in documents))


def _hits(found: Found) -> list[Hit]:
    return [Hit(int(id), float(score)) for id, score in zip(found.ids, found.scores)]
