"""The faiss index against its plain twin, and what it says when faiss is not as it should be."""

from __future__ import annotations

import sys

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlong.errors import BankError, ConfigError
from memlong.index import faiss as ours
from memlong.index.base import VectorIndex, Vectors
from memlong.index.faiss import FlatIndex
from tests.memlong.index.exact import ExactIndex

DIM = 6


def vectors(count: int, dim: int = DIM, seed: int = 0) -> Vectors:
    """Return random vectors of length 1."""
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pairs(index: VectorIndex, queries: Vectors, k: int, **limits: object) -> list[list[tuple[int, float]]]:
    """Return what a search finds as plain pairs."""
    found = index.search(queries, k, **limits)  # type: ignore[arg-type]
    return [list(zip(each.ids.tolist(), each.scores.tolist())) for each in found]


@pytest.fixture(params=[FlatIndex, ExactIndex])
def index(request: pytest.FixtureRequest) -> VectorIndex:
    return request.param(DIM)


# Few distinct vectors with small whole coordinates: ties, duplicates and zero vectors are the rule.
coordinates = st.lists(st.integers(-2, 2), min_size=DIM, max_size=DIM)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30), coordinates),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("search"), coordinates, st.integers(0, 12), st.sets(st.integers(0, 30)), st.booleans()),
    ),
    min_size=15,
    max_size=60,
)


@given(changes)
@settings(max_examples=80, deadline=None)
def test_equals_its_twin_whatever_happens(steps: list[tuple]) -> None:
    flat, exact = FlatIndex(DIM), ExactIndex(DIM)
    for step in steps:
        if step[0] == "add" and step[1] not in exact:
            row = np.array([step[2]], dtype=np.float32)
            flat.add([step[1]], row)
            exact.add([step[1]], row)
        elif step[0] == "remove" and step[1] in exact:
            flat.remove([step[1]])
            exact.remove([step[1]])
        elif step[0] == "search":
            _, query, k, ids, only = step
            limits = {"among": ids, "exclude": set(list(ids)[:2])} if only else {"exclude": ids}
            queries = np.array([query, query[::-1]], dtype=np.float32)
            assert pairs(flat, queries, k, **limits) == pairs(exact, queries, k, **limits)
        assert flat.ids() == exact.ids()
        np.testing.assert_allclose(flat.mean_squares(), exact.mean_squares(), atol=1e-6)
    for id in exact.ids():
        assert np.array_equal(flat.vector(id), exact.vector(id))


@pytest.mark.parametrize("dim", [3, 384, 1024])
@pytest.mark.parametrize("queries", [1, 3, 40])  # faiss multiplies matrices from 20 queries on
def test_equals_its_twin_at_size(dim: int, queries: int) -> None:
    rows = vectors(700, dim)
    rows[350:] = rows[:350]  # every vector twice, so every search ends in a tie
    flat, exact = FlatIndex(dim), ExactIndex(dim)
    for index in (flat, exact):
        index.add(range(700), rows)
        index.remove(range(0, 700, 7))
    found = pairs(flat, vectors(queries, dim, seed=1), 5)
    assert found == pairs(exact, vectors(queries, dim, seed=1), 5)
    assert all(len(each) == 5 for each in found)


def test_scores_that_float32_sums_cannot_tell_apart_are_ranked_as_the_twin_ranks_them() -> None:
    # One vector with its coordinates in 500 orders has one sum, but 500 sums of rounded numbers.
    rng = np.random.default_rng(3)
    rows = np.stack([rng.permutation(vectors(1, 1024)[0]) for _ in range(500)])
    query = np.ones((1, 1024), dtype=np.float32)
    flat, exact = FlatIndex(1024), ExactIndex(1024)
    for index in (flat, exact):
        index.add(range(500), rows)
    assert pairs(flat, query, 4) == pairs(exact, query, 4)
    assert [id for id, _ in pairs(flat, query, 4)[0]] == [0, 1, 2, 3]


def test_finds_best_first_and_equal_scores_by_smaller_id(index: VectorIndex) -> None:
    east, north = np.eye(DIM, dtype=np.float32)[:2]
    index.add([9, 4, 7, 2], np.stack([east, north, east, 0.5 * east]))
    assert pairs(index, east[None], 3) == [[(7, 1.0), (9, 1.0), (2, 0.5)]]
    assert pairs(index, east[None], 1) == [[(7, 1.0)]]


def test_limits_hold_together(index: VectorIndex) -> None:
    index.add(range(10), vectors(10))
    found = index.search(vectors(2, seed=5), 10, among={1, 2, 3, 99}, exclude={2})
    assert [sorted(each.ids.tolist()) for each in found] == [[1, 3], [1, 3]]
    assert pairs(index, vectors(1), 3, among=set()) == [[]]
    assert pairs(index, vectors(1), 3, exclude=range(10)) == [[]]


def test_an_empty_index_finds_nothing(index: VectorIndex) -> None:
    assert pairs(index, vectors(2), 3) == [[], []]
    index.add([], np.empty((0, DIM), dtype=np.float32))
    assert len(index) == 0


def test_a_returned_vector_is_a_copy(index: VectorIndex) -> None:
    index.add([1], vectors(1))
    index.vector(1)[:] = 0
    assert np.array_equal(index.vector(1), vectors(1)[0])


@pytest.mark.parametrize(
    "ids, rows",
    [
        ([1], vectors(1)),  # held
        ([5, 5], vectors(2)),  # twice
        ([5], vectors(2)),  # too many rows
        ([5], vectors(1, DIM + 1)),  # too wide
        ([5], np.full((1, DIM), np.nan, dtype=np.float32)),
    ],
)
def test_refuses_what_it_cannot_hold_and_stays_as_it_was(index: VectorIndex, ids: list[int], rows: Vectors) -> None:
    index.add([1, 2], vectors(2))
    with pytest.raises(BankError):
        index.add(ids, rows)
    assert index.ids() == [1, 2]


def test_refuses_ids_that_it_does_not_hold(index: VectorIndex) -> None:
    index.add([1, 2], vectors(2))
    with pytest.raises(BankError, match="7"):
        index.remove([1, 7])
    with pytest.raises(BankError, match="7"):
        index.vector(7)
    assert index.ids() == [1, 2]
    assert 1 in index
    assert 7 not in index


def test_searches_with_one_thread_and_leaves_the_number_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = faiss.knn

    def knn(*args: object, **kwargs: object) -> object:
        seen.append(faiss.omp_get_max_threads())
        return real(*args, **kwargs)

    monkeypatch.setattr(faiss, "knn", knn)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        index = FlatIndex(DIM)
        index.add(range(50), vectors(50))
        index.search(vectors(1), 3)
        assert seen == [1]
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_two_builds_of_faiss_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_installed", lambda name: name in ("faiss-cpu", "faiss-gpu"))
    with pytest.raises(ConfigError, match=r"faiss-cpu and faiss-gpu are both installed.*pip uninstall"):
        FlatIndex(DIM)


def test_a_missing_faiss_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match="pip install faiss-cpu"):
        FlatIndex(DIM)


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this faiss knows GPUs")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="faiss-gpu"):
        FlatIndex(DIM, gpu=True)


@pytest.mark.gpu
def test_the_gpu_finds_what_the_cpu_finds() -> None:
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("needs faiss-gpu, and this is faiss-cpu")
    gpu, cpu = FlatIndex(384, gpu=True), FlatIndex(384)
    for index in (gpu, cpu):
        index.add(range(500), vectors(500, 384))
    assert pairs(gpu, vectors(30, 384, 1), 8) == pairs(cpu, vectors(30, 384, 1), 8)
