"""Search for many queries at once, and answer each later, as the bank is by then.

While a batch of windows is stored, every chunk searches the bank as it stands just before its own window. Asked one
by one, each query walks over all vectors held; asked together, one walk serves them all. What was written since is
compared one by one, what left since is passed over, and results are the same to the last bit.

Shapes: E embedding size, Q queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memlong.bank.results import Hit
from memlong.index.base import Vectors, best_first, inner_products

if TYPE_CHECKING:
    from memlong.bank.bank import Bank


class SearchAhead:
    """The results of several queries on a bank that changes meanwhile.

    Args:
        bank: searched now. Chunks may be written, evicted and deleted afterwards, but none restored.
        queries_QE: unit vectors. top_k: chunks per query.
    """

    def __init__(self, bank: Bank, queries_QE: Vectors, top_k: int) -> None:
        self.bank, self.queries_QE, self.top_k = bank, queries_QE, top_k
        self._first = bank.ledger.clock  # chunks from this id on are written later
        # A batch that writes as many chunks as it has queries seldom lets more of them leave.
        self._wanted = top_k + len(queries_QE)
        self._found = bank.search_many(queries_QE, self._wanted)

    def search(self, query: int) -> list[Hit]:
        """Return what ``bank.search`` of this query would return now."""
        bank, early = self.bank, self._found[query]
        kept = [hit for hit in early if hit.chunk_id in bank]
        if len(early) == self._wanted and len(kept) < self.top_k:
            # So many left that others, unknown here, may come next.
            return bank.search(self.queries_QE[query], self.top_k)
        newer = [chunk_id for chunk_id in range(self._first, bank.ledger.clock) if chunk_id in bank]
        if not newer:
            return kept[: self.top_k]
        vectors = np.stack([bank.embedding(chunk_id) for chunk_id in newer])
        ids = np.array([*(hit.chunk_id for hit in kept), *newer])
        scores = np.concatenate(
            [np.array([hit.score for hit in kept], np.float32), inner_products(vectors, self.queries_QE[query])]
        )
        best = best_first(ids, scores, self.top_k)
        return [Hit(int(chunk_id), float(score)) for chunk_id, score in zip(best.ids, best.scores, strict=True)]
