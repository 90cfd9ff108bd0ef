"""The plain twin of the faiss index: every score, every time. What the index is compared with."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from memlong.index.base import (
    Found,
    Vectors,
    best_first,
    checked_vectors,
    inner_products,
    repeated_ids,
    unknown_ids,
)


class ExactIndex:
    """A mapping from id to vector, searched in full. See :class:`memlong.index.base.VectorIndex`."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._vectors: dict[int, Vectors] = {}

    def __len__(self) -> int:
        return len(self._vectors)

    def __contains__(self, id: object) -> bool:
        return id in self._vectors

    def ids(self) -> list[int]:
        """Return all ids held, rising."""
        return sorted(self._vectors)

    def add(self, ids: Sequence[int], vectors_NE: Vectors) -> None:
        """Hold new vectors."""
        vectors = checked_vectors(vectors_NE, self.dim, len(ids))
        if len(set(ids)) < len(ids) or any(id in self._vectors for id in ids):
            raise repeated_ids([id for id in ids if id in self._vectors or ids.count(id) > 1])
        self._vectors |= {id: vector.copy() for id, vector in zip(ids, vectors)}

    def remove(self, ids: Sequence[int]) -> None:
        """Forget vectors."""
        if missing := set(ids) - self._vectors.keys():
            raise unknown_ids(missing)
        for id in set(ids):
            del self._vectors[id]

    def vector(self, id: int) -> Vectors:
        """Return a copy [E] of the vector held for an id."""
        if id not in self._vectors:
            raise unknown_ids([id])
        return self._vectors[id].copy()

    def mean_squares(self) -> Vectors:
        """Return the mean [E] of squares."""
        held = np.array([*self._vectors.values(), np.zeros(self.dim)], dtype=np.float64)
        return np.square(held).sum(axis=0) / max(len(self), 1)

    def search(
        self,
        queries_QE: Vectors,
        k: int,
        among: Collection[int] | None = None,
        exclude: Collection[int] = (),
    ) -> list[Found]:
        """Return the best ``k`` of each query."""
        queries = checked_vectors(queries_QE, self.dim)
        banned, wanted = set(exclude), None if among is None else set(among)
        ids = [id for id in self.ids() if id not in banned and (wanted is None or id in wanted)]
        rows = np.array([self._vectors[id] for id in ids], dtype=np.float32).reshape(-1, self.dim)
        held = np.array(ids, dtype=np.int64)
        return [best_first(held, inner_products(rows, query), max(0, k)) for query in queries]
