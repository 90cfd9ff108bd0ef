"""What the bank answers: chunks found, chunks evicted. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from memlong.bank.ledger import ChunkRecord


class Hit(NamedTuple):
    """A chunk found, and the inner product of its embedding with the query's, or its score after a second look."""

    chunk_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Eviction:
    """A chunk that left because the bank was full.

    Attributes:
        record: as it was when it left. policy, rule: who decided, and why in words for people.
        age_chunks: chunks written since it was. occupancy_tokens: tokens held before it left.
        capacity_tokens: tokens that may be held. step: event clock of the session.
    """

    record: ChunkRecord
    policy: str
    rule: str
    age_chunks: int
    occupancy_tokens: int
    capacity_tokens: int
    step: int
