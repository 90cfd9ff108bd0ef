"""What every index does, and the one way in which scores are computed and ordered.

Shapes: E embedding size, N vectors held, Q queries, k results.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memlong.errors import BankError

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


class Found(NamedTuple):
    """Results of one query, best first, equal scores by smaller id.

    Attributes:
        ids: int64 [at most k]. scores: inner products, float32 [at most k].
    """

    ids: Ids
    scores: Vectors


class VectorIndex(Protocol):
    """Holds one vector per id; finds the largest inner products exactly."""

    dim: int

    def __len__(self) -> int: ...

    def __contains__(self, id: object) -> bool: ...

    def ids(self) -> list[int]:
        """Return all ids held, rising."""
        ...

    def add(self, ids: Sequence[int], vectors_NE: Vectors) -> None:
        """Hold new vectors.

        Raises:
            BankError: for an id that is held already, a wrong shape, or numbers that are not finite.
        """
        ...

    def remove(self, ids: Sequence[int]) -> None:
        """Forget vectors.

        Raises:
            BankError: for an id that is not held; then none is forgotten.
        """
        ...

    def vector(self, id: int) -> Vectors:
        """Return a copy [E] of the vector held for an id."""
        ...

    def mean_squares(self) -> Vectors:
        """Return the mean [E] of the squares of each number over all vectors held; zeros of none."""
        ...

    def search(
        self,
        queries_QE: Vectors,
        k: int,
        among: Collection[int] | None = None,
        exclude: Collection[int] = (),
    ) -> list[Found]:
        """Return the best ``k`` of each query, fewer when fewer may be found.

        Args:
            among: only these ids may be found; None means all. exclude: these may not.
        """
        ...


def inner_products(vectors_NE: Vectors, query_E: Vectors) -> Vectors:
    """Return the inner product of each row with the query, summed in float64.

    Row by row and not by a matrix product, whose sums differ in the last bit from row to row: equal vectors
        must
    have equal scores, or ties would be broken by chance.
    """
    products = np.multiply(vectors_NE, query_E, dtype=np.float64)
    return products.sum(axis=1).astype(np.float32)


def best_first(ids: Ids, scores: Vectors, k: int) -> Found:
    """Return the ``k`` highest scores, equal ones by smaller id."""
    order = np.lexsort((ids, -scores))[:k]
    return Found(ids[order], scores[order])


def checked_vectors(vectors_NE: Vectors, dim: int, count: int | None = None) -> Vectors:
    """Return float32 rows of ``dim`` finite numbers.

    Raises:
        BankError: when they are not.
    """
    vectors = np.ascontiguousarray(vectors_NE, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim or (count is not None and len(vectors) != count):
        raise BankError(
            f"Embeddings of shape {list(vectors.shape)}",
            f"[{'any number' if count is None else count}, {dim}]",
            "Use the retriever that the bank was made for",
        )
    if not np.isfinite(vectors).all():
        raise BankError(
            "An embedding with numbers that are not finite",
            "Finite numbers",
            "Check the retriever: its model may be damaged, or too narrow in its number type",
        )
    return vectors


def unknown_ids(missing: Collection[int]) -> BankError:
    """Return the error for ids that are not held."""
    return BankError(f"No vector is held for {sorted(missing)[:5]}", "Ids that were added", "Add them first")


def repeated_ids(ids: Collection[int]) -> BankError:
    """Return the error for ids that are held already or given twice."""
    return BankError(f"A vector for {sorted(ids)[:5]} is held already", "Each id once", "Remove it first")
