"""An answer under other memories: equal to what answering itself computed, and without a trace of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memlong import MemoryConfig, MemoryModel, Session
from memlong.config import AskOptions
from memlong.errors import BankError, ConfigError
from memlong.evaluation import counterfactual
from memlong.evaluation.counterfactual import answer_logprob, leave_one_out
from memlong.evaluation.needle import OUTCOMES, Needle, hide, run
from memlong.retriever.hashing import HashingRetriever

FACT = "The brass lantern of Ottoline Varga stood in the cellar of the customs house."
TEXT = " ".join([*(f"On day {i} ship {i * 7 % 11} met wind {i * 5 % 13}." for i in range(30)), FACT])


@pytest.fixture
def parts(tiny_llama, tiny_tokenizer):
    config = MemoryConfig(chunk_tokens=32, window_tokens=32, top_k=3, store_dtype="float32", retrieve_every=0)
    return MemoryModel(tiny_llama(), tiny_tokenizer, config), HashingRetriever(256)


@pytest.fixture
def session(parts):
    made = Session(*parts)
    made.read(TEXT)
    return made


def test_it_is_the_probability_that_answering_saw(session):
    answer = session.ask("Where did the lantern stand?", AskOptions(max_tokens=5, retrieve_every=0))
    ids = [item.chunk_id for item in answer.retrieved]
    assert answer_logprob(session, answer.question, answer.text, ids) != answer_logprob(
        session, answer.question, answer.text, []
    )
    assert answer_logprob(session, answer.question, answer.token_ids, ids) == pytest.approx(answer.logprob, abs=1e-3)
    assert answer_logprob(session, answer.question, (), ids) == 0
    again = session.ask("Where did the lantern stand?", AskOptions(max_tokens=5, retrieve_every=0, seed=9))
    assert again.logprob == pytest.approx(answer.logprob, abs=1e-4)


def test_relevance_counts_as_it_did_for_the_answer(session):
    session.config = session.config.replace(relevance_strength=30.0)
    answer = session.ask("Where did the brass lantern stand?", AskOptions(max_tokens=5))
    ids = [item.chunk_id for item in answer.retrieved]
    given = (session, answer.question, answer.token_ids, ids)
    assert answer_logprob(*given) == pytest.approx(answer.logprob, abs=1e-3)
    session.config = session.config.replace(relevance_strength=0.0)
    assert answer_logprob(*given) != pytest.approx(answer.logprob, abs=1e-3)


@pytest.mark.parametrize(
    "changes",
    [{"memory_strength": 2.0}, {"history": 1}, {"answer_from": "both"}, {"answer_from": "passages", "history": 2}],
)
def test_it_is_weighed_as_it_was_asked(session, changes):
    for question in ("Which ship met wind 3?", "On which day?"):
        session.ask(question, max_tokens=4)
    turns = list(session.turns)
    options = AskOptions(max_tokens=5, **changes)
    answer = session.ask("Where did the lantern stand?", options)
    ids = [item.chunk_id for item in answer.retrieved]
    given = (session, answer.question, answer.token_ids, ids)
    assert answer_logprob(*given, options=options, turns=turns) == pytest.approx(answer.logprob, abs=1e-3)
    assert answer_logprob(*given) != pytest.approx(answer.logprob, abs=0.02), "asked otherwise, it was less or more"
    whole, *others = leave_one_out(*given, options=options, turns=turns)
    assert whole.logprob == pytest.approx(answer.logprob, abs=1e-3)
    assert all(abs(other.logprob - whole.logprob) > 1e-4 for other in others)


@pytest.mark.parametrize("record", [True, False])
def test_it_is_rounded_as_answering_rounds_it(tiny_llama, tiny_tokenizer, record):
    config = MemoryConfig(chunk_tokens=32, window_tokens=32, top_k=3, retrieve_every=0)
    session = Session(MemoryModel(tiny_llama().bfloat16(), tiny_tokenizer, config), HashingRetriever(256))
    session.read(TEXT)
    options = AskOptions(max_tokens=20, record_attention=record)
    answer = session.ask("Where did the lantern stand?", options)
    ids = [item.chunk_id for item in answer.retrieved]
    weighed = answer_logprob(session, answer.question, answer.token_ids, ids, options=options)
    assert weighed == pytest.approx(answer.logprob, abs=1e-3)


def test_a_long_answer_is_weighed_in_one_piece(session, monkeypatch):
    runs, real = [], session.model.forward
    monkeypatch.setattr(session.model, "forward", lambda *a, **k: runs.append(1) or real(*a, **k))
    said = [5, 6, 7] * 11
    together = answer_logprob(session, "Where?", said, [0, 1])
    assert (len(said), len(runs)) == (33, 1)
    monkeypatch.setattr(counterfactual, "TOKEN_BY_TOKEN", 33)
    assert answer_logprob(session, "Where?", said, [0, 1]) == pytest.approx(together, abs=1e-2)
    assert len(runs) == 34


def test_passages_that_the_model_has_no_positions_for_are_left_out(session, monkeypatch):
    answer = session.ask("Where did the lantern stand?", AskOptions(max_tokens=5, answer_from="both"))
    ids = [item.chunk_id for item in answer.retrieved]
    monkeypatch.setattr(session.model, "spec", replace(session.model.spec, max_positions=70))
    options = AskOptions(max_tokens=5, answer_from="both")
    narrow = session.ask("Where did the lantern stand?", options)
    assert narrow.logprob != answer.logprob
    weighed = answer_logprob(session, narrow.question, narrow.token_ids, ids, options=options)
    assert weighed == pytest.approx(narrow.logprob, abs=1e-3)


def test_every_chunk_is_left_out_once_and_nothing_is_recorded(session):
    answer = session.ask("Where did the lantern stand?", AskOptions(max_tokens=4))
    ids = [item.chunk_id for item in answer.retrieved]
    step, counts = session.recorder.step, [r.trigger_count for r in session.bank.records()]
    rows = list(leave_one_out(session, answer.question, answer.text, ids))
    assert [row.left_out for row in rows] == [None, *sorted(ids), None]
    assert rows[0].chunk_ids == tuple(sorted(ids)) and rows[-1].chunk_ids == ()
    assert len({round(row.logprob, 6) for row in rows}) > 2
    assert (session.recorder.step, [r.trigger_count for r in session.bank.records()]) == (step, counts)


def test_chunks_that_left_are_passed_over(session):
    session.delete_chunk(0)
    rows = list(leave_one_out(session, "Where?", "There", [0, 1]))
    assert [row.chunk_ids for row in rows] == [(1,), ()]


def test_a_forced_chunk_takes_the_place_of_the_worst(session):
    plain = session.ask("Where did the lantern stand?", AskOptions(max_tokens=2))
    found = [item.chunk_id for item in plain.retrieved]
    other = next(r.chunk_id for r in session.bank.records() if r.chunk_id not in found)
    forced = session.ask("Where did the lantern stand?", AskOptions(max_tokens=2, forced=(other,), masked=(found[0],)))
    now = [item.chunk_id for item in forced.retrieved]
    assert other in now and found[0] not in now and len(now) == len(found)
    with pytest.raises(BankError, match="is not in the bank"):
        session.ask("Where?", AskOptions(max_tokens=2, forced=(999,)))


@pytest.mark.parametrize("depth", [0.0, 0.37, 1.0])
def test_a_needle_stands_whole_between_sentences(depth):
    hidden, (start, end) = hide("One fell. Two rose. Three went home.", "Zorvin sang.", depth)
    assert hidden[start:end] == "Zorvin sang."
    assert sorted(hidden.split()) == sorted("One fell. Two rose. Three went home. Zorvin sang.".split())
    assert abs(start / len(hidden) - depth) < 0.4


def test_a_needle_is_judged_for_every_place(parts):
    needle = Needle(FACT, "Where did the brass lantern of Ottoline Varga stand?", "the cellar")
    model, retriever = parts
    parts = model.with_config(model.config.replace(policy="fifo")), retriever
    steps = list(run(*parts, TEXT.replace(FACT, ""), needle, [(0.0, 64), (1.0, 64), (0.0, 4096), (1.0, 4096)]))
    tries = steps[-1].tries
    assert [(t.depth, t.capacity_tokens) for t in tries] == [(0.0, 64), (1.0, 64), (0.0, 4096), (1.0, 4096)]
    assert {t.outcome for t in tries} <= set(OUTCOMES)
    assert tries[0].outcome == "evicted", "two chunks hold no beginning of a text"
    assert tries[2].outcome != "evicted" and steps[-1].share == 1.0
    assert [step.share for step in steps] == sorted(step.share for step in steps)


def test_a_needle_can_be_stopped_and_must_be_whole(parts):
    with pytest.raises(ConfigError, match="empty question"):
        Needle(FACT, " ", "x")
    with pytest.raises(ConfigError, match="empty right answer"):
        Needle(FACT, "Where?", "")
    needle = Needle(FACT, "Where?", "x")
    assert len(list(run(*parts, TEXT, needle, [(0.5, 4096)], cancel=lambda: True))) == 1
