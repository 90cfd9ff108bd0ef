"""Sessions at their edges: very short chunks, odd titles, long prompts, folders that cannot be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from memlong.config import AskOptions
from memlong.errors import BankError, ConfigError, DocumentError, ModelError, PersistError
from memlong.session import Session
from memlong.trace.events import ChunkWritten
from memlong.trace.replay import rebuild

QUESTION = "Where stood the brass lantern of Ottoline Varga?"


def test_a_window_of_more_chunks_than_there_are_spare_slots_is_read(make_session, long_text):
    session = make_session(chunk_tokens=8, window_tokens=512, capacity_tokens=1024)
    report = session.read(long_text)
    assert report.status == "done" and report.chunks_read > 256
    assert len(session.bank) == report.chunks_kept == 128
    assert report.evicted == report.chunks_read - 128


def test_a_bank_of_one_chunk_works(make_session, long_text):
    session = make_session(chunk_tokens=32, window_tokens=32, capacity_tokens=32)
    session.read(long_text)
    assert len(session.bank) == 1 and len(session.ask(QUESTION, max_tokens=2).retrieved) == 1


def test_spilled_context_never_goes_into_a_document_that_was_removed(make_session, long_text):
    session = make_session(local_tokens=48)
    session.read(long_text, title="conversation")
    session.remove_document(0)
    session.ask(QUESTION * 8, max_tokens=2)
    conversation = session.conversation()
    assert conversation.doc_id == 1 and conversation.status == "done" and conversation.text
    assert session.documents[0].text == ""
    session.remove_document(1)
    session.ask(QUESTION * 8, max_tokens=2)
    assert session.conversation().doc_id == 2


def test_passages_come_on_top_of_the_local_context_and_are_not_stored_again(make_session, long_text):
    session = make_session(local_tokens=64)
    session.read(long_text)
    before = len(session.bank)
    for source in ("passages", "both"):
        answer = session.ask(QUESTION, answer_from=source, top_k=6, max_tokens=4)
        assert len(answer.retrieved) >= 6
    assert len(session.bank) == before and len(session.documents) == 1


def test_passages_without_positions_are_left_out_the_worst_first(make_session, long_text, monkeypatch):
    session = make_session(local_tokens=64)
    session.model.spec = type(session.model.spec)(**{**vars(session.model.spec), "max_positions": 160})
    session.read(long_text)
    prompts: list[list[str]] = []
    from memlong.session import prompting

    real = prompting.encode_prompt
    monkeypatch.setattr(prompting, "encode_prompt", lambda *given: prompts.append(list(given[2])) or real(*given))
    answer = session.ask(QUESTION, answer_from="passages", top_k=6, max_tokens=4, retrieve_every=0)
    assert 0 < len(prompts[-1]) < 6
    best = {item.text.strip() for item in answer.retrieved[: len(prompts[-1])]}
    assert set(prompts[-1]) == best


@pytest.mark.parametrize(
    "question", ["\ud800", "\x00", "\U0001f642" * 40, "\u05e9\u05dc\u05d5\u05dd", "<|im_end|>" * 9]
)
def test_any_question_is_answered(make_session, long_text, question: str):
    session = make_session()
    session.read(long_text)
    assert session.ask(question, max_tokens=2).n_tokens <= 2


@pytest.mark.parametrize("text", ["a", "\ud800 x", "\x00", "\U0001f642" * 60, "\u05e9\u05dc\u05d5\u05dd " * 30])
def test_any_text_is_read_whole(make_session, text: str):
    session: Session = make_session()
    session.read(text)
    assert "".join(text[slice(*record.span)] for record in session.bank.records()) == text


def test_a_folder_that_cannot_be_written_is_refused_in_words(make_session, long_text, tmp_path: Path):
    session = make_session()
    session.read(long_text)
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for folder in (taken, taken / "below"):
        with pytest.raises(PersistError, match="Nothing can be saved"):
            session.save(folder)


def test_a_step_of_reading_is_as_short_as_it_is_told_to_be(make_session, long_text):
    session = make_session(read_batch_tokens=64 * 8)
    first = session.open(long_text)
    steps = [step.chunks_done for step in session.read_steps(first, step_seconds=1e-9)]
    assert steps[0] == 16 and set(np.diff(steps)) <= {1, 2}, "the speed is known after the first batch"
    second = session.open(long_text)
    assert next(session.read_steps(second, step_seconds=1e-9)).chunks_done == 2
    third = session.open(long_text)
    steps = [step.chunks_done for step in session.read_steps(third, step_seconds=1e9)]
    assert steps[:2] == [16, 32]
    ids = [[r.chunk_id for r in session.bank.records() if r.doc_id == doc_id] for doc_id in (first, third)]
    for one, other in zip(*(session.bank.gather(some) for some in ids), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_reading_ends_when_its_own_progress_removes_the_document(make_session, long_text, cancel, at_the_end):
    session = make_session()

    def remove(step):
        if not at_the_end or step.chunks_done == step.chunks_total:
            session.remove_document(step.doc_id)

    report = session.read(long_text, progress=remove, cancel=lambda: cancel and not session.readings)
    assert (report.status, report.chunks_kept) == ("removed", 0)
    assert (report.chunks_read == session.documents[0].chunks_total) is at_the_end
    assert not len(session.bank) and not session.present


def test_a_document_that_is_removed_while_it_is_read_leaves_nothing_behind(make_session, long_text):
    session = make_session()
    session.read(long_text, "kept")
    held = len(session.bank)
    doc_id = session.open(long_text, "dropped")
    steps = session.read_steps(doc_id)
    next(steps)
    session.remove_document(doc_id)
    assert list(steps) == [] and len(session.bank) == held
    assert session.documents[doc_id].status == "removed" and list(session.present) == [0]
    with pytest.raises(BankError, match=r"Known: \[0\]"):
        session.remove_document(doc_id)
    with pytest.raises(BankError, match=r"Known: \[0\]"):
        session.ask(QUESTION, documents=(0, doc_id))


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_a_text_without_a_word_is_refused_and_leaves_no_trace(make_session, text: str):
    session = make_session()
    with pytest.raises(DocumentError, match="no text"):
        session.read(text)
    assert not session.documents and session.recorder.step == 1


def test_changes_go_on_top_of_options_and_unknown_ones_are_refused(make_session, long_text):
    session = make_session()
    session.read(long_text)
    answer = session.ask(QUESTION, AskOptions(max_tokens=9, top_k=1, retrieve_every=0), max_tokens=2)
    assert answer.n_tokens <= 2 and len(answer.retrieved) == 1
    with pytest.raises(ConfigError, match="Did you mean 'top_k'"):
        session.ask(QUESTION, topk=1)
    with pytest.raises(BankError, match="Chunk 999"):
        session.ask(QUESTION, forced=(999,))


def test_spilled_context_that_left_cannot_be_brought_back(make_session, long_text):
    session = make_session(local_tokens=48, capacity_tokens=64)
    session.ask(long_text, max_tokens=1)
    with pytest.raises(BankError, match="part of the conversation"):
        session.restore(next(iter(session.gone)))


@pytest.mark.parametrize("device", ["tpu"] if torch.cuda.is_available() else ["tpu", "cuda"])
def test_a_bank_on_a_device_that_is_not_here_is_refused_in_words(make_session, device: str):
    with pytest.raises(ModelError, match=device):
        make_session(bank_device=device)


def test_documents_can_be_listed_while_another_is_opened(make_session, long_text):
    """As when one thread of an app opens a document while another looks which ones there are."""
    session = make_session()
    first = session.open(long_text, "first")

    class Meanwhile:
        @property
        def status(self):
            session.open(long_text, "second")
            return "done"

    session.documents[first] = Meanwhile()
    assert list(session.present) == [first]
    assert len(session.documents) == 2


def test_what_was_removed_is_not_counted_as_read(make_session, long_text):
    session = make_session()
    first = session.read(long_text)
    session.remove_document(0)
    assert session.chunks_read == 0
    session.read(long_text)
    answer = session.ask("Who kept the ledger?", max_tokens=2)
    assert (answer.chunks_read, answer.chunks_kept) == (first.chunks_read, first.chunks_read)


def test_layers_that_need_maps_are_refused_before_anything_is_read(make_session):
    with pytest.raises(ModelError, match="there are no maps"):
        make_session(preset="interpolated", stored_layers=(0, 3))


def test_a_reading_that_fails_can_be_gone_on_with_and_its_trace_says_so(make_session, long_text):
    session = make_session(capacity_tokens=32 * 4)
    session.read(long_text)
    for record in session.bank.records():
        session.pin(record.chunk_id)
    with pytest.raises(BankError, match="pinned"):
        session.read(long_text, title="second")
    assert session.documents[1].status == "cancelled"
    assert session.recorder.filter("DocumentClosed", doc_id=1)[-1].status == "cancelled"

    def tired(progress):
        raise KeyboardInterrupt

    session.unpin(session.bank.records()[0].chunk_id)
    with pytest.raises(KeyboardInterrupt):
        session.read(long_text, title="third", progress=tired)
    assert session.documents[2].status == "cancelled" and session.documents[2].chunks_read > 0
    for doc_id in (1, 2):
        assert [*session.read_steps(doc_id)][-1].tokens_done == session.documents[doc_id].n_tokens
        assert session.documents[doc_id].status == "done"


@pytest.mark.parametrize("place", ["bank", "trace"])
def test_a_window_broken_off_in_its_middle_is_read_again_as_a_whole(make_session, long_text, monkeypatch, place):
    session, whole = make_session(window_tokens=128), make_session(window_tokens=128)
    whole.read(long_text)
    doc_id, calls = session.open(long_text), []
    target, name = (session.bank, "write") if place == "bank" else (session.recorder, "append")
    run = getattr(target, name)

    def tired(*given, **options):
        if place == "bank" or isinstance(given[0], ChunkWritten):
            calls.append(given)
            if len(calls) == 7:  # the third chunk of the second window
                raise KeyboardInterrupt
        return run(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, tired)
        with pytest.raises(KeyboardInterrupt):
            list(session.read_steps(doc_id))
    assert session.documents[doc_id].chunks_read == len(session.bank) == 4
    assert rebuild(session.recorder.events).chunks.keys() == {record.chunk_id for record in session.bank.records()}
    for _ in session.read_steps(doc_id):
        pass
    held = [record.index_in_doc for record in session.bank.records()]
    assert held == [record.index_in_doc for record in whole.bank.records()]
    assert not session.gone


def test_progress_counts_the_tokens_of_what_was_read(make_session, long_text):
    session = make_session()
    doc_id = session.open(long_text)
    chunks = session.readings[doc_id].chunks
    for progress in session.read_steps(doc_id):
        assert progress.tokens_done == sum(chunk.n_tokens for chunk in chunks[: progress.chunks_done])


def test_a_policy_of_another_type_changes_nothing(make_session, long_text, tmp_path: Path):
    session = make_session(capacity_tokens=32 * 8)
    with pytest.raises(ConfigError, match="policy=None"):
        session.set_policy(None)
    session.read(long_text)  # evicts by the policy that was there
    session.save(tmp_path / "saved")
    assert Session.load(tmp_path / "saved", session.model, session.retriever).bank.policy.name == "trigger_count"


def test_a_session_with_windows_of_its_own_comes_back_with_them(make_session, long_text, tmp_path: Path):
    model, retriever = make_session(window_tokens=64).model, make_session().retriever
    session = Session(model, retriever, model.config.replace(window_tokens=128))
    session.read(long_text)
    session.save(tmp_path / "saved")
    again = Session.load(tmp_path / "saved", model, retriever)
    assert again.config.window_tokens == 128
    mine, its = (each.ask(QUESTION, max_tokens=4) for each in (session, again))
    assert mine.text == its.text
