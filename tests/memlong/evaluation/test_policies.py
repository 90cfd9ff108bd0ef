"""Policies replayed on a record: a bank that holds everything loses nothing, and what a policy promises it keeps."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from memlong.bank.eviction import POLICIES
from memlong.errors import BankError
from memlong.evaluation import policies
from memlong.evaluation.policies import (
    ENOUGH,
    SecondLook,
    _best,
    conclusion,
    replay,
    replays,
    wanted_by,
    wanted_later,
)
from memlong.evaluation.recording import Recording, record
from memlong.trace.events import ChunkWritten, QuestionAsked


def written(chunk_id: int) -> ChunkWritten:
    return ChunkWritten(chunk_id, 0, chunk_id, (chunk_id * 10, chunk_id * 10 + 10), 10, chunk_id)


def asked(text: str, way: str = "memory") -> QuestionAsked:
    return QuestionAsked(0, text, way, 2, None)


def recording(n: int = 40, questions: int = 3, top_k: int = 2) -> Recording:
    events = [*(written(i) for i in range(n)), *(asked(f"question {i}") for i in range(questions))]
    return record(events, chunk_tokens=10, top_k=top_k)


def vectors(n: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_bank_for_everything_loses_nothing(policy):
    (row,) = replay(recording(), vectors(40), vectors(3, 1), [policy], [400])
    assert (row.evicted, row.recall_reading, row.recall_questions, dict(row.missed)) == (0, 1.0, 1.0, {})


@pytest.mark.parametrize("policy", POLICIES)
def test_a_small_bank_misses_what_left(policy):
    (row,) = replay(recording(), vectors(40), vectors(3, 1), [policy], [100])
    assert row.evicted >= 30 and 0 < row.recall_reading < 1
    assert row.curve[-1] == (40, row.recall_reading)
    assert sum(row.missed.values()) > 0 and max(row.missed) < 40


def test_an_early_favourite_survives_by_its_triggers_and_not_by_its_age():
    # Chunk 0 is what every later chunk asks for; the others are alike to nobody.
    chunks = np.eye(30, dtype=np.float32)
    chunks[:, 0] += 1.0
    asked = chunks[:1].repeat(ENOUGH, axis=0)
    rows = {row.policy: row for row in replay(recording(30, ENOUGH, 1), chunks, asked, list(POLICIES), [100])}
    assert rows["trigger_count"].recall_questions == 1.0 and 0 not in rows["trigger_count"].missed
    assert rows["fifo"].recall_questions == 0.0 and rows["fifo"].missed[0] > 10
    said = conclusion(list(rows.values()), "fifo")
    assert "fifo, which this session uses, held 0%, the least of all" in said and said.startswith("Yes, ")
    assert "of what questions would have fetched" in said
    two = [rows["trigger_count"], rows["fifo"]]
    assert "trigger_count, which this session uses, kept most: it still held 100%" in conclusion(two, "trigger_count")
    assert conclusion(two, "trigger_count").startswith("No other policy would have kept more")
    assert conclusion(two, "lru").startswith("trigger_count kept most: with room for 100 tokens")
    assert conclusion([rows["fifo"], rows["fifo"]], "fifo").startswith("No policy would have kept more")
    wide = [replace(row, capacity_tokens=200) for row in two]
    assert "fifo, which this session uses, held 0%" in conclusion([*two, *wide], "fifo", 200)
    assert "with room for 200 tokens, as memory has," in conclusion([*two, *wide], "fifo", 200)
    assert "with room for 100 tokens," in conclusion([*two, *wide], "fifo", 300), "where nothing had to leave"


def test_a_few_questions_are_no_reason_to_judge_a_policy_by_them():
    (row,) = replay(recording(40, 3, 2), vectors(40), vectors(3, 1), ["fifo"], [100])
    assert row.wanted_by_questions == 6 < ENOUGH and row.recall == row.recall_reading
    assert "the rest of the text" in conclusion([row], "fifo")
    (row,) = replay(recording(40, 5, 2), vectors(40), vectors(5, 1), ["fifo"], [100])
    assert row.wanted_by_questions == 10 and row.recall == row.recall_questions


@pytest.mark.parametrize("seed", range(20))
def test_the_best_are_those_of_a_full_sort_with_equal_ones_by_place(seed):
    drawn = np.random.default_rng(seed)
    scores = drawn.integers(0, 4, size=drawn.integers(1, 60)).astype(np.float32)
    scores[drawn.random(len(scores)) < 0.3] = -np.inf
    expected = [at for at in np.argsort(-scores, kind="stable")[:3] if np.isfinite(scores[at])]
    assert list(_best(scores, 3)) == expected


def test_who_would_have_wanted_a_chunk_after_it_left():
    # Chunks 3 and 5 look like chunk 0, and so does the second question; the first was asked before all of them.
    chunks = np.eye(6, dtype=np.float32)
    chunks[[3, 5], 0] = 2.0
    made = record([written(0), asked("early"), *(written(i) for i in range(1, 6)), asked("late")], 10, 1)
    questions = chunks[[0, 0]]
    assert made.ends == [*range(6), 1, 6]
    wanted = wanted_by(np.concatenate([chunks, questions]), made.ends, chunks, 1)
    assert wanted_later(made, wanted, 0, 1) == ([1, 2, 3, 4], ["early"]), "ties go to the first chunk"
    assert wanted_later(made, wanted, 0, 4) == ([4], [])
    assert wanted_later(made, wanted, 3, 4) == ([5], ["late"])


def test_a_question_in_steps_that_would_have_wanted_a_chunk_is_one_in_its_own_words():
    chunks = np.eye(3, dtype=np.float32)
    first, last = (QuestionAsked(at, text, "memory", 2, None, "Whole?") for at, text in enumerate(("First?", "Last?")))
    made = record([*(written(i) for i in range(3)), first, last], 10, 1)
    wanted = wanted_by(np.concatenate([chunks, chunks[[0, 0]]]), made.ends, chunks, 1)
    assert wanted_later(made, wanted, 0, 3) == ([], ["Whole?"])


def test_one_replay_equals_the_bank_it_stands_for(tiny_session_replay):
    session, evicted, row = tiny_session_replay
    assert row.evicted == evicted > 0
    assert list(row.kept) == [record.chunk_id for record in session.bank.records()]


@pytest.fixture(params=[16, 64])
def tiny_session_replay(request, tiny_llama, tiny_tokenizer):
    """A real session that overflows, and its replay with the session's own policy and capacity."""
    from memlong import MemoryConfig, MemoryModel, Session
    from memlong.retriever.hashing import HashingRetriever

    config = MemoryConfig(
        chunk_tokens=16, window_tokens=request.param, top_k=2, capacity_tokens=96, store_dtype="float32"
    )
    session = Session(MemoryModel(tiny_llama(), tiny_tokenizer, config), HashingRetriever(64))
    report = session.read(" ".join(f"On day {i} ship {i * 7 % 11} met wind {i * 5 % 13}." for i in range(60)))
    made = record(session.recorder.events, 16, 2)
    text = next(iter(session.documents.values())).text
    chunks = session.retriever.embed_documents([text[slice(*chunk.span)] for chunk in made.chunks])
    (row,) = replay(made, chunks, chunks[:0], [config.policy], [96])
    return session, report.evicted, row


def test_stopping_keeps_what_was_done():
    rows = replay(recording(), vectors(40), vectors(3), ["fifo", "lru"], [100], lambda done, total: done == 1)
    assert [row.policy for row in rows] == ["fifo"]
    with pytest.raises(BankError):
        replay(recording(), vectors(40), vectors(3), ["fifoo"], [100])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("window", [1, 3])
def test_blocks_of_queries_change_nothing(policy, window, monkeypatch):
    events: list = [ChunkWritten(i, 0, i, (i * 10, i * 10 + 10), 10, i // window) for i in range(60)]
    events[40:40] = [asked("in the middle")]
    made = record([*events, asked("late")], 10, 2)
    given = (made, vectors(60), vectors(2, 1), [policy], [100, 300])
    whole = replay(*given)
    for at_once in (1, 7):
        monkeypatch.setattr(policies, "_AT_ONCE", at_once)
        assert replay(*given) == whole


def test_memory_does_not_grow_with_the_square_of_what_was_read():
    made, chunks = recording(3000, 0), vectors(3000)
    tracemalloc.start()
    try:
        (row,) = replay(made, chunks, chunks[:0], ["fifo"], [15_000])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert row.evicted == 1500
    assert peak < 3000 * 3000 * 4 / 2, "half of what all scores together would take"


def test_who_watches_is_told_between_two_replays():
    steps = list(replays(recording(1200, 2), vectors(1200), vectors(2, 1), ["fifo", "lru"], [100]))
    assert [row.policy for row in steps if row] == ["fifo", "lru"]
    assert steps.count(None) >= 8, "three blocks of queries, twice three of lives"


def youngest(question: int, places: np.ndarray, found: np.ndarray) -> np.ndarray:
    """A second look that wants what was written last."""
    return places.astype(np.float32)


def test_a_question_fetches_what_its_second_look_says():
    chunks, questions, asked_for = vectors(30), vectors(3, 1), []

    def noted(question: int, places: np.ndarray, found: np.ndarray) -> np.ndarray:
        asked_for.append(question)
        np.testing.assert_allclose(found, chunks[places] @ questions[question - 5], atol=1e-6)
        return youngest(question, places, found)

    ends = [30, 2, 0]
    found = wanted_by(questions, ends, chunks, 2, (5, SecondLook(6, noted)))
    for end, row, query in zip(ends, found, questions, strict=True):
        first = np.argsort(-(chunks[:end] @ query), kind="stable")[:6]
        assert list(row) == sorted(first, reverse=True)[:2]
    assert asked_for == [5, 6, 7], "by its place in the recording"
    assert [list(row) for row in found] != [list(row) for row in wanted_by(questions, ends, chunks, 2)]
    alike = wanted_by(questions, ends, chunks, 2, (0, SecondLook(6, lambda question, places, found: 0 * found)))
    assert list(alike[0]) == sorted(np.argsort(-(chunks @ questions[0]), kind="stable")[:6])[:2], "ties go by place"


def test_as_many_as_are_fetched_are_looked_at_at_least():
    chunks, questions = vectors(30), vectors(1, 1)
    (row,) = wanted_by(questions, [30], chunks, 4, (0, SecondLook(1, youngest)))
    assert list(row) == sorted(np.argsort(-(chunks @ questions[0]), kind="stable")[:4], reverse=True)


def test_a_replay_misses_what_a_second_look_would_have_fetched():
    made, chunks, questions = recording(40, ENOUGH, 2), vectors(40), vectors(ENOUGH, 1)
    held = []

    def noted(question: int, places: np.ndarray, found: np.ndarray) -> np.ndarray:
        held.append(places.min())
        return youngest(question, places, found)

    given = (made, chunks, questions, ["fifo"], [100])
    (row,) = [row for row in replays(*given, SecondLook(8, noted)) if row]
    (plain,) = [row for row in replays(*given) if row]
    wanted = np.array([sorted(np.argsort(-(chunks @ query))[:8])[-2:] for query in questions])
    assert row.recall_questions == pytest.approx((wanted >= 30).mean()) != plain.recall_questions
    assert row.wanted_by_questions == plain.wanted_by_questions == 2 * ENOUGH
    (reading,) = replay(recording(40, 0, 2), chunks, chunks[:0], ["fifo"], [100])
    by_questions = {place: times - reading.missed.get(place, 0) for place, times in row.missed.items()}
    assert sum(by_questions.values()) == (wanted < 30).sum()
    assert all(by_questions.get(place, 0) == (wanted == place).sum() for place in range(30))
    assert (row.recall_reading, row.curve, row.evicted) == (plain.recall_reading, plain.curve, plain.evicted)
    assert len(held) == 2 * ENOUGH and min(held[ENOUGH:]) >= 30, "in a life only what it holds is looked at"


def test_what_a_second_look_fetches_is_kept_for_it():
    # The question is likest chunk 15; a second look prefers 12. Both are old when the rest is read.
    chunks = np.eye(40, dtype=np.float32)
    query = (chunks[15] + 0.9 * chunks[12])[None]
    made = record([*(written(i) for i in range(20)), asked("between"), *(written(i) for i in range(20, 40))], 10, 1)
    second = SecondLook(3, lambda question, places, found: (places == 12).astype(np.float32))
    for look, kept in ((None, 15), (second, 12)):
        (row,) = [row for row in replays(made, chunks, query, ["trigger_count"], [100], look) if row]
        assert {12, 15} & set(row.kept) == {kept}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_second_look_that_sees_nothing_new_changes_nothing(policy):
    events = [written(i) for i in range(60)]
    events[25:25] = [asked("in the middle")]  # type: ignore[list-item]
    made = record([*events, asked("late")], 10, 3)
    given = (made, vectors(60), vectors(2, 1), [policy], [100, 300])
    same = SecondLook(7, lambda question, places, found: found)
    assert list(replays(*given, same)) == list(replays(*given, None)) == list(replays(*given))
    assert [row for row in replays(*given) if row] == replay(*given)
