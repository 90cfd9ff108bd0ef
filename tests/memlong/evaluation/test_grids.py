"""Grids: texts with their answers in place, and cells that equal a session with that bank."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memlong.bank.eviction import POLICIES
from memlong.chunking import count_tokens
from memlong.config import AskOptions, MemoryConfig
from memlong.errors import ConfigError
from memlong.evaluation.grids import (
    Axes,
    GridResult,
    Haystack,
    Probe,
    Tried,
    beginning,
    needles,
    numbered_needle,
    pairs,
    run_grid,
)
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session

TEXT = " ".join(f"On day {i} ship {i * 7 % 11} met wind {i * 5 % 13}." for i in range(60))
OPTIONS = AskOptions(max_tokens=6, record_attention=False)


@pytest.fixture
def model(tiny_llama, tiny_tokenizer) -> MemoryModel:
    config = MemoryConfig(chunk_tokens=16, window_tokens=16, top_k=2, store_dtype="float32", read_batch_tokens=64)
    return MemoryModel(tiny_llama(), tiny_tokenizer, config)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cell_equals_a_session_with_that_bank(model, policy):
    at = TEXT.index("On day 30")
    probe = Probe(0.5, (at, at + 20), "Which ship met wind on day 30?", "1")
    found = run_grid(
        model,
        HashingRetriever(64),
        lambda *_: iter([Haystack(TEXT, (probe,))]),
        Axes((1,), (96, 1), (policy,)),
        OPTIONS,
    )
    small, whole = found.rows
    for row, capacity in ((small, 96), (whole, 4096)):
        session = Session(
            model.with_config(model.config.replace(policy=policy, capacity_tokens=capacity)), HashingRetriever(64)
        )
        session.read(TEXT)
        answer = session.ask(probe.question, OPTIONS)
        near = [r for r in session.bank.records() if r.span[0] < probe.span[1] and r.span[1] > probe.span[0]]
        assert row.answer == answer.text and row.kept == bool(near)
        assert row.found == any(r.chunk_id in {e.chunk_id for e in answer.retrieved} for r in near)
    assert whole.kept and small.capacity_tokens == 96 and whole.capacity_tokens == count_tokens(model.tokenizer, TEXT)


def test_a_right_answer_is_one_that_says_what_was_hidden(model, monkeypatch):
    real = Session.ask
    monkeypatch.setattr(Session, "ask", lambda *given: replace(real(*given), text="It is 42."))
    probes = (Probe(0.0, (0, 5), "What?", "42"), Probe(1.0, (0, 5), "What?", "43"))
    rows = run_grid(
        model, HashingRetriever(64), lambda *_: iter([Haystack(TEXT, probes)]), Axes((1,), (1,), ("fifo",))
    ).rows
    assert [row.right for row in rows] == [True, False]


def test_what_a_step_retrieved_was_found(model, monkeypatch):
    real = Session.ask

    def in_steps(*given):
        answer = real(*given)
        return replace(answer, retrieved=(), steps=(answer,))

    probe = Probe(0.0, (0, len(TEXT)), "What?", "42")
    found = []
    for ask in (real, in_steps, lambda *given: replace(real(*given), retrieved=())):
        monkeypatch.setattr(Session, "ask", ask)
        stacks = iter([Haystack(TEXT, (probe,))])
        result = run_grid(model, HashingRetriever(64), lambda *_, s=stacks: s, Axes((1,), (1,), ("fifo",)), OPTIONS)
        found += [row.found for row in result.rows]
    assert found == [True, True, False]


def test_needles_are_hidden_at_every_depth_and_differ_by_try(model):
    needle = numbered_needle(7)
    assert needle(0) == numbered_needle(7)(0) and len({needle(n).expected for n in range(5)}) == 5
    make = needles(TEXT, model.tokenizer, needle, (0.0, 0.5, 1.0))
    made = list(make(200, 1))
    assert len(made) == 3
    for haystack, depth in zip(made, (0.0, 0.5, 1.0), strict=True):
        (probe,) = haystack.probes
        start, end = probe.span
        assert haystack.text[start:end] == needle(1).sentence and probe.depth == depth
        assert probe.expected in haystack.text[start:end]
        assert abs(start / len(haystack.text) - depth) < 0.2
    with pytest.raises(ConfigError, match="longer text"):
        beginning(TEXT, model.tokenizer, 100_000)
    assert count_tokens(model.tokenizer, beginning(TEXT, model.tokenizer, 50)) == 50


def test_pairs_stand_where_they_say_and_are_all_different(model):
    (haystack,) = pairs(model.tokenizer, (0.0, 0.5, 1.0), 7)(2000, 0)
    lines = haystack.text.splitlines()
    assert len(set(lines)) == len(lines)
    assert abs(count_tokens(model.tokenizer, haystack.text) - 2000) < 200
    for probe, at in zip(haystack.probes, (0, len(lines) // 2, len(lines) - 1), strict=True):
        line = haystack.text[slice(*probe.span)]
        assert line == lines[at] and probe.expected in line
        assert probe.question.split()[-1].rstrip("?") in line
    (other,) = pairs(model.tokenizer, (0.0,), 7)(2000, 1)
    assert other.text != haystack.text


def test_cells_by_hand():
    row = Tried(100, 0.5, 0.25, 25, "fifo", True, True, False, "")
    rows = [row, replace(row, right=True), replace(row, depth=0.0, kept=False, found=False)]
    middle, start = GridResult(rows).table()
    assert (middle["tries"], middle["answered"], middle["found"], middle["kept"]) == (2, 0.5, 1.0, 1.0)
    assert (start["depth"], start["kept"], start["capacity_tokens"], start["policy"]) == (0.0, 0.0, 25, "fifo")


def test_stopping_and_wrong_grids(model):
    make = pairs(model.tokenizer, (0.0, 1.0), 7)
    said: list[str] = []

    def stop(words: str) -> bool:
        said.append(words)
        return "depth 100%" in words

    found = run_grid(model, HashingRetriever(64), make, Axes((100,), (1,), ("fifo", "lru")), OPTIONS, stop)
    assert [row.depth for row in found.rows] == [0.0] and "100% read" in said[-3]
    assert not run_grid(model, HashingRetriever(64), make, Axes((100,), (1,), ("fifo",)), OPTIONS, lambda w: True).rows
    for wrong, said in (
        ({"capacities": (0.0,)}, "capacity of 0"),
        ({"policies": ()}, "without policies"),
        ({"tries": 0}, "0 tries"),
    ):
        with pytest.raises(ConfigError, match=said):
            Axes(**({"lengths": (100,), "capacities": (1.0,), "policies": ("fifo",)} | wrong))
