"""A session from end to end, without a page: read, overflow, ask, pin, restore, remove, save."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from memlong.chunking import PageSpan
from memlong.errors import BankError, ConfigError, DocumentError, PersistError
from memlong.session import Answer, Session
from memlong.trace.events import DocumentClosed, Evicted, Retrieved
from memlong.trace.replay import rebuild

from .conftest import FACT

QUESTION = "Where stood the brass lantern of Ottoline Varga?"


def test_every_chunk_is_stored_with_its_own_text_and_kv(make_session, long_text):
    session = make_session()
    report = session.read(long_text, "log")
    records = session.bank.records()
    assert report.chunks_read == report.chunks_kept == len(records) == session.documents[0].chunks_total
    assert "".join(long_text[slice(*record.span)] for record in records) == long_text
    for record in records[:: len(records) // 5]:
        hit = session.bank.search(session.bank.embedding(record.chunk_id), 1)[0]
        assert hit.chunk_id == record.chunk_id


def test_stored_kv_depend_on_the_window_alone(make_session, long_text):
    """The batch a window is read in, padding included, must not change what is stored."""
    one, many = make_session(read_batch_tokens=64), make_session(read_batch_tokens=512)
    one.read(long_text), many.read(long_text)
    ids = [record.chunk_id for record in one.bank.records()]
    for a, b in zip(one.bank.gather(ids), many.bank.gather(ids), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_a_chunk_of_the_window_being_read_is_not_yet_memory(make_session, long_text):
    session = make_session(window_tokens=128)
    session.read(long_text)
    per_window, written = 4, {}
    for event in session.recorder.events:
        if event.kind == "ChunkWritten":
            written[event.chunk_id] = event
        elif isinstance(event, Retrieved):
            first = event.query_id // per_window * per_window
            assert all(written[hit.chunk_id].index_in_doc < first for hit in event.hits)


def test_the_chunk_with_the_fact_is_the_best_evidence(make_session, long_text):
    session = make_session()
    session.read(long_text, "log", [PageSpan(0, len(long_text), "page 1")])
    answer = session.ask(QUESTION, max_tokens=6, retrieve_every=0)
    best = answer.retrieved[0]
    assert set(FACT.split()) & set(best.text.split())
    assert best.text == long_text[slice(*best.span)] and best.place == "page 1"
    assert [item.rank for item in answer.retrieved] == [1, 2, 3]
    assert all(item.trigger_count == item.trigger_count_before + 1 for item in answer.retrieved)
    assert 0 < answer.memory_mass < 1
    assert sum(item.attention_mass for item in answer.retrieved) == pytest.approx(answer.memory_mass)
    assert set(answer.seconds) == {"embed", "search", "gather", "prefill", "decode"}
    assert answer.n_tokens == len(answer.token_texts) > 0
    json.dumps(answer.to_dict())


def test_a_question_is_weighed_by_what_the_bank_holds(make_session, long_text):
    session = make_session()
    session.read(long_text, "log")
    plain = session.ask(QUESTION, max_tokens=1, retrieve_every=0)
    vectors = np.stack([session.bank.embedding(record.chunk_id) for record in session.bank.records()])
    given = []

    def backwards(query_E, mean_squares_E, held):
        assert held == len(vectors)
        given.append(mean_squares_E)
        return -query_E

    session.retriever.weigh_query = backwards
    weighed = session.ask(QUESTION, max_tokens=1, retrieve_every=0)
    np.testing.assert_allclose(given[0], np.square(vectors).mean(axis=0), atol=1e-6)
    furthest = -(vectors @ session.retriever.embed_query(QUESTION)).min()
    assert weighed.retrieved[0].score == pytest.approx(furthest, abs=1e-6)
    assert weighed.retrieved[0].chunk_id not in {item.chunk_id for item in plain.retrieved}


def test_memory_changes_the_answer_and_strength_minus_infinity_is_none(make_session, long_text):
    session = make_session()
    session.read(long_text)
    options = {"max_tokens": 12, "retrieve_every": 0, "record_attention": False}
    nothing = session.ask(QUESTION, answer_from="nothing", **options)
    off = session.ask(QUESTION, memory_strength=float("-inf"), **options)
    memory = session.ask(QUESTION, **options)
    assert off.text == nothing.text and off.logprob == pytest.approx(nothing.logprob)
    assert memory.text != nothing.text
    assert not nothing.retrieved and len(memory.retrieved) == 3


def test_looking_at_attention_does_not_change_the_answer(make_session, long_text):
    session = make_session()
    session.read(long_text)
    seen = session.ask(QUESTION, max_tokens=10, record_attention=True)
    unseen = session.ask(QUESTION, max_tokens=10, record_attention=False)
    assert seen.text == unseen.text and seen.logprob == pytest.approx(unseen.logprob, abs=1e-3)
    assert unseen.memory_mass is None and all(item.attention_mass is None for item in unseen.retrieved)


def test_passages_are_put_into_the_prompt(make_session, long_text):
    session = make_session(local_tokens=2048)
    session.read(long_text)
    passages = session.ask(QUESTION, answer_from="passages", max_tokens=4)
    both = session.ask(QUESTION, answer_from="both", max_tokens=4)
    assert len(passages.retrieved) == 3 and passages.memory_mass is None
    assert both.memory_mass is not None


def test_retrieval_is_repeated_while_answering(make_session, long_text):
    session = make_session()
    session.read(long_text)
    before = len(session.recorder.filter(kind="Retrieved"))
    answer = session.ask(QUESTION, max_tokens=9, retrieve_every=4)
    queries = Counter(event.query for event in session.recorder.filter(kind="Retrieved")[before:])
    assert queries["question"] == 1 and queries["newest"] == (answer.n_tokens - 1) // 4


def test_a_full_bank_evicts_the_least_triggered_and_says_why(make_session, long_text):
    session = make_session(capacity_tokens=32 * 8)
    report = session.read(long_text)
    evicted = [event for event in session.recorder.events if isinstance(event, Evicted)]
    assert report.evicted == len(evicted) == report.chunks_read - report.chunks_kept > 0
    assert session.bank.tokens <= 32 * 8
    assert all("trigger" in event.rule and event.policy == "trigger_count" for event in evicted)
    state = rebuild(session.recorder.events, session.recorder.step)
    assert set(state.chunks) == {record.chunk_id for record in session.bank.records()}
    for record in session.bank.records():
        assert state.chunks[record.chunk_id].trigger_count == record.trigger_count


def test_reading_can_be_stopped_and_taken_up_again(make_session, long_text):
    session, whole = make_session(), make_session()
    seen = []
    report = session.read(long_text, progress=seen.append, cancel=lambda: len(seen) == 2)
    assert report.status == "cancelled" and 0 < report.chunks_read < session.documents[0].chunks_total
    assert session.ask(QUESTION, max_tokens=2).reading.startswith("text: ")
    for _ in session.read_steps(0):
        pass
    whole.read(long_text)
    assert session.documents[0].status == "done" and session.report(0).chunks_read == whole.report(0).chunks_read
    assert [r.span for r in session.bank.records()] == [r.span for r in whole.bank.records()]
    assert [e.status for e in session.recorder.events if isinstance(e, DocumentClosed)] == [
        "cancelled",
        "done",
    ]


def test_an_answer_can_be_stopped_and_is_kept(make_session, long_text):
    session = make_session()
    session.read(long_text)
    calls = iter(range(100))
    *_, answer = session.stream(QUESTION, cancel=lambda: next(calls) >= 2)
    assert isinstance(answer, Answer) and answer.stop_reason == "cancelled" and answer.n_tokens == 3


def test_pinned_chunks_stay_and_evicted_ones_come_back_as_they_were(make_session, long_text):
    session = make_session(capacity_tokens=32 * 6)
    session.read(long_text)
    gone = next(event for event in session.recorder.events if isinstance(event, Evicted))
    left = session.restore(gone.chunk_id)
    assert gone.chunk_id in session.bank and session.bank.get(gone.chunk_id).pinned and len(left) == 1
    fresh = make_session()
    fresh.read(long_text)
    for a, b in zip(session.bank.gather([gone.chunk_id]), fresh.bank.gather([gone.chunk_id]), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    session.read(long_text, "again")
    assert gone.chunk_id in session.bank
    with pytest.raises(BankError, match="evicted or deleted"):
        session.restore(gone.chunk_id)


def test_masked_chunks_and_other_documents_are_not_retrieved(make_session, long_text):
    session = make_session()
    session.read(long_text, "first"), session.read(long_text, "second")
    best = session.ask(QUESTION, max_tokens=1, documents=(1,)).retrieved
    assert {item.doc_id for item in best} == {1}
    masked = session.ask(QUESTION, max_tokens=1, documents=(1,), masked=(best[0].chunk_id,)).retrieved
    assert best[0].chunk_id not in {item.chunk_id for item in masked}
    session.remove_document(1)
    assert {item.doc_id for item in session.ask(QUESTION, max_tokens=1).retrieved} == {0}


def test_local_context_that_outgrows_its_window_is_spilled_with_its_own_text(make_session):
    session = make_session(local_tokens=64)
    words = " ".join(f"word{number}" for number in range(60))
    session.ask(f"{words} Who?", answer_from="nothing", max_tokens=40)
    spilled = session.documents[0]
    assert spilled.title == "conversation" and spilled.chunks_read >= 2
    first = session.bank.records()[0]
    assert first.n_tokens == 32 and "word0" in spilled.text[slice(*first.span)]
    assert "".join(spilled.text[slice(*record.span)] for record in session.bank.records()) == spilled.text


def test_saved_and_loaded_sessions_answer_alike(make_session, long_text, tmp_path: Path):
    session = make_session(capacity_tokens=32 * 20)
    session.read(long_text, "log", [PageSpan(0, 500, "page 1")])
    session.pin(session.bank.records()[0].chunk_id)
    session.save(tmp_path / "saved")
    other = Session.load(tmp_path / "saved", session.model, session.retriever)
    assert [vars_of(r) for r in other.bank.records()] == [vars_of(r) for r in session.bank.records()]
    assert other.documents[0].spans == session.documents[0].spans
    a, b = session.ask(QUESTION, max_tokens=6), other.ask(QUESTION, max_tokens=6)
    assert (a.text, [e.chunk_id for e in a.retrieved]) == (b.text, [e.chunk_id for e in b.retrieved])
    gone = next(event for event in other.recorder.events if isinstance(event, Evicted))
    other.restore(gone.chunk_id)


def test_a_bank_of_another_model_is_refused(make_session, long_text, tmp_path: Path, tiny_llama, tiny_tokenizer):
    from memlong.model.wrapper import MemoryModel

    session = make_session()
    session.read(long_text)
    session.save(tmp_path / "saved")
    stranger = MemoryModel(tiny_llama(seed=1), tiny_tokenizer, session.config)
    with pytest.raises(PersistError, match="model="):
        Session.load(tmp_path / "saved", stranger, session.retriever)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("/no/such/tiny", "tiny"),
        ("~/models/tiny", "tiny"),
        ("./", Path.cwd().name),
        ("owner/tiny", "owner/tiny"),
    ],
)
def test_a_saved_session_does_not_tell_where_the_model_lay(make_session, long_text, tmp_path: Path, name, kept):
    session = make_session()
    session.read(long_text)
    session.model.name = name
    session.save(tmp_path)
    assert kept in (tmp_path / "manifest.json").read_text()
    if kept != name:
        assert not [file for file in tmp_path.rglob("*.json*") if name in file.read_text()]


def test_what_makes_no_sense_is_refused(make_session, long_text):
    session = make_session()
    with pytest.raises(DocumentError):
        session.read("")
    with pytest.raises(ConfigError, match="question"):
        session.ask("  ")
    with pytest.raises(BankError, match="Documents"):
        session.ask("Who?", documents=(7,))
    with pytest.raises(BankError, match="Unknown policy"):
        session.set_policy("oldest")


def test_an_empty_bank_answers_without_memory(make_session):
    answer = make_session().ask("Who kept the ledger?", max_tokens=3)
    assert answer.retrieved == () and answer.low_evidence and answer.memory_mass is None


def test_capacity_and_policy_change_at_any_time(make_session, long_text):
    session = make_session()
    session.read(long_text)
    held = len(session.bank)
    session.set_policy("fifo")
    gone = session.set_capacity(32 * 5)
    assert len(gone) == held - len(session.bank) and session.bank.tokens <= 32 * 5
    assert gone == sorted(gone)  # first in, first out
    assert session.recorder.filter(kind="CapacityChanged")[-1].capacity_tokens == 32 * 5


def vars_of(record: object) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in ("chunk_id", "span", "trigger_count", "pinned", "written_order"))
