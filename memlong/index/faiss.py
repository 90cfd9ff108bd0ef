"""Exact inner-product search by faiss over rows that are ours to overwrite. The only file that knows faiss.

A faiss index cannot give back a row cheaply: removing one of 32,000 takes milliseconds, and GPU indexes cannot at
all. So the rows lie in a matrix of our own, where adding and removing touch one row, and faiss is asked to search that
matrix. It proposes a few more candidates than wanted; their scores are computed again in one fixed way, so that
results, ties included, are those of the plain twin.

Shapes: E embedding size, N vectors held, R rows that a search may find, Q queries, k results.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from memlong.errors import ConfigError
from memlong.index.base import (
    Found,
    Ids,
    Vectors,
    best_first,
    checked_vectors,
    inner_products,
    repeated_ids,
    unknown_ids,
)

_BUILDS = ("faiss", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12")
_SPARE_CANDIDATES = 8
_SHARED_WALK = 4  # queries from which a matrix product is faster; for one it takes twice the time
_MOST_ON_GPU = 2048  # results per query that faiss can select on a GPU


class FlatIndex:
    """One float32 row per id. Adding and removing cost the same however many are held.

    Args:
        dim: E. gpu: search on the GPU; rows stay in host memory and travel with each search, which pays for
            many queries at a time over large banks.

    Raises:
        ConfigError: when faiss is missing, is installed twice, or has no GPU to use when asked for one.
    """

    def __init__(self, dim: int, gpu: bool = False) -> None:
        self.dim = dim
        self._faiss = load_faiss()
        _usual_threshold(self._faiss)
        self._resources = _gpu_resources(self._faiss) if gpu else None
        self._rows = np.empty((64, dim), dtype=np.float32)
        self._ids = np.empty(64, dtype=np.int64)
        self._row_of: dict[int, int] = {}
        self._squares = np.zeros(dim)  # sums of the squares of the rows held
        self._longest = 0.0  # length of the longest vector ever held, bounds faiss's rounding

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, id: object) -> bool:
        return id in self._row_of

    def ids(self) -> list[int]:
        """Return all ids held, rising."""
        return sorted(self._row_of)

    def add(self, ids: Sequence[int], vectors_NE: Vectors) -> None:
        """Hold new vectors.

        Raises:
            BankError: for an id that is held already, a wrong shape, or numbers that are not finite.
        """
        vectors = checked_vectors(vectors_NE, self.dim, len(ids))
        if len(set(ids)) < len(ids) or any(id in self._row_of for id in ids):
            raise repeated_ids([id for id in ids if id in self._row_of or ids.count(id) > 1])
        if not len(ids):
            return
        start, end = len(self), len(self) + len(ids)
        self._grow(end)
        self._rows[start:end], self._ids[start:end] = vectors, ids
        self._row_of.update(zip(ids, range(start, end)))
        self._squares += np.square(vectors, dtype=np.float64).sum(axis=0)
        self._longest = max(self._longest, float(np.linalg.norm(vectors, axis=1).max()))

    def remove(self, ids: Sequence[int]) -> None:
        """Forget vectors: the last row moves into the gap.

        Raises:
            BankError: for an id that is not held; then none is forgotten.
        """
        # Not by set arithmetic with the keys: that would walk over all of them.
        if missing := [id for id in ids if id not in self._row_of]:
            raise unknown_ids(missing)
        for id in set(ids):
            row, last = self._row_of.pop(id), len(self._row_of)
            self._squares -= np.square(self._rows[row], dtype=np.float64)
            if row != last:
                self._rows[row], self._ids[row] = self._rows[last], self._ids[last]
                self._row_of[int(self._ids[row])] = row

    def vector(self, id: int) -> Vectors:
        """Return a copy [E] of the vector held for an id.

        Raises:
            BankError: for an id that is not held.
        """
        if id not in self._row_of:
            raise unknown_ids([id])
        return self._rows[self._row_of[id]].copy()

    def mean_squares(self) -> Vectors:
        """Return the mean [E] of the squares of each number over all vectors held; zeros of none.

        Kept up to date: it costs the same however many are held.
        """
        # What rounding leaves of numbers that were added and taken away again may lie below zero.
        return (np.maximum(self._squares, 0.0) / max(len(self), 1)).astype(np.float32)

    def search(
        self,
        queries_QE: Vectors,
        k: int,
        among: Collection[int] | None = None,
        exclude: Collection[int] = (),
    ) -> list[Found]:
        """Return the best ``k`` of each query, fewer when fewer may be found.

        Args:
            among: only these ids may be found; None means all, ids not held are passed over.
            exclude: ids that may not be found.
        """
        queries = checked_vectors(queries_QE, self.dim)
        rows, ids = self._rows[: len(self)], self._ids[: len(self)]
        dropped = [id for id in set(exclude) if id in self._row_of]
        if among is not None:
            chosen = self._rows_among(among, exclude)
            rows, ids, dropped = rows[chosen], ids[chosen], []
        k = min(max(0, k), len(rows) - len(dropped))
        if not k:
            return [Found(ids[:0].copy(), np.empty(0, dtype=np.float32)) for _ in queries]
        found = []
        # Few exclusions are cheaper to find and to drop than to leave out of the search.
        for query, nearest in zip(queries, self._nearest(queries, rows, k + len(dropped))):
            if dropped:
                nearest = nearest[~np.isin(ids[nearest], dropped)]
            found.append(best_first(ids[nearest], inner_products(rows[nearest], query), k))
        return found

    def _rows_among(self, among: Collection[int], exclude: Collection[int]) -> Ids:
        banned, row_of = set(exclude), self._row_of
        rows = [row_of[id] for id in set(among) if id in row_of and id not in banned]
        return np.sort(np.array(rows, dtype=np.int64))

    def _nearest(self, queries_QE: Vectors, rows_RE: Vectors, k: int) -> list[Ids]:
        """Return for each query the rows among which its true best ``k`` surely are.

        faiss's sums are rounded in float32: by at most E units in the last place of |q| |x|. Rows within that
        reach of the last one wanted may really be better, so the search widens until the gap is larger.
        """
        slack = 2.0 * self.dim * 2.0**-24 * self._longest * np.linalg.norm(queries_QE, axis=1)
        proposals: list[Ids] = [np.arange(len(rows_RE))] * len(queries_QE)
        open_queries, wanted = np.arange(len(queries_QE)), k + _SPARE_CANDIDATES
        while len(open_queries) and wanted < len(rows_RE) and not (self._resources and wanted > _MOST_ON_GPU):
            scores, nearest = self._knn(queries_QE[open_queries], rows_RE, wanted)
            sure = scores[:, k - 1] - scores[:, -1] > slack[open_queries]
            for query, row in zip(open_queries[sure], nearest[sure]):
                proposals[query] = row
            open_queries, wanted = open_queries[~sure], 4 * wanted
        return proposals

    def _knn(self, queries_QE: Vectors, rows_RE: Vectors, k: int) -> tuple[Vectors, Ids]:
        inner = self._faiss.METRIC_INNER_PRODUCT
        if self._resources is not None:
            return self._faiss.knn_gpu(self._resources, queries_QE, rows_RE, k, metric=inner)
        with _one_thread(self._faiss), _products(self._faiss, len(queries_QE)):
            return self._faiss.knn(queries_QE, rows_RE, k, metric=inner)

    def _grow(self, needed: int) -> None:
        if needed <= len(self._ids):
            return
        size, held = max(needed, 2 * len(self._ids)), len(self)
        rows, ids = np.empty((size, self.dim), dtype=np.float32), np.empty(size, dtype=np.int64)
        rows[:held], ids[:held] = self._rows[:held], self._ids[:held]
        self._rows, self._ids = rows, ids


def load_faiss() -> Any:
    """Import faiss, which may be installed by one package only.

    Raises:
        ConfigError: when it is missing, or two of its builds share one folder and break each other.
    """
    builds = [name for name in _BUILDS if _installed(name)]
    if len(builds) > 1:
        raise ConfigError(
            f"{' and '.join(builds)} are both installed",
            "One build of faiss: they share a folder, and the later one breaks the other",
            f"Run: pip uninstall {' '.join(builds)}, then pip install {builds[-1]}",
        )
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            f"faiss cannot be imported ({error})",
            "The vector index needs it",
            "Run: pip install faiss-gpu on Linux with an NVIDIA GPU, pip install faiss-cpu elsewhere",
        ) from error
    return faiss


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _gpu_resources(faiss: Any) -> Any:
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() < 1:
        raise ConfigError(
            "A vector index on the GPU was asked for",
            "It needs the package faiss-gpu and an NVIDIA GPU, and one of them is missing here",
            "Use gpu=False: exact search on the CPU takes a millisecond for a book",
        )
    return faiss.StandardGpuResources()


@contextmanager
def _products(faiss: Any, queries: int) -> Iterator[None]:
    """Let several queries share one walk over the rows, as a matrix product; by default each takes its own.

    The setting is faiss's own, for all threads; another thread's search may be slower or faster, never different.
    """
    usual = _usual_threshold(faiss)
    if queries >= _SHARED_WALK:
        faiss.cvar.distance_compute_blas_threshold = 1
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = usual


@cache
def _usual_threshold(faiss: Any) -> int:
    """Return faiss's own setting, asked once: later on another thread may just have changed it."""
    return int(faiss.cvar.distance_compute_blas_threshold)


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    """Search with one thread: waking others takes longer than the search, far longer on a busy machine."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
