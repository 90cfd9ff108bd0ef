"""A session that borrows a memory: it answers as the lender would, and the lender is as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memlong import MemoryConfig, MemoryModel, Session
from memlong.config import AskOptions
from memlong.errors import BankError
from memlong.evaluation.aside import LENT_CHUNKS, aside
from memlong.retriever.hashing import HashingRetriever

QUESTION = "Where did the lantern stand on day 7?"
TEXT = " ".join(f"On day {i} ship {i * 7 % 11} met wind {i * 5 % 13}." for i in range(90))


@pytest.fixture(params=["float32", "int8"])
def session(request, tiny_llama, tiny_tokenizer):
    config = MemoryConfig(
        chunk_tokens=32, window_tokens=32, top_k=3, capacity_tokens=32 * 12, store_dtype=request.param, local_tokens=64
    )
    made = Session(MemoryModel(tiny_llama(), tiny_tokenizer, config), HashingRetriever(256))
    made.read(TEXT)
    assert len(made.gone) > LENT_CHUNKS
    return made


def state(session):
    """Return all that may not change."""
    kv = session.bank.gather([record.chunk_id for record in session.bank.records()])
    return (
        session.bank.records(), session.recorder.step, list(session.turns), sorted(session.gone),
        {doc_id: (document.title, document.text) for doc_id, document in session.documents.items()},
        session.bank.spare_slots, [part.sum().item() for part in kv],
    )  # fmt: skip


def test_it_answers_as_the_lender_and_leaves_no_mark(session):
    before, onlooker = repr(state(session)), aside(session)
    seen = onlooker.ask(QUESTION, AskOptions(max_tokens=40, retrieve_every=4))
    assert repr(state(session)) == before
    told = session.ask(QUESTION, AskOptions(max_tokens=40, retrieve_every=4))
    assert (seen.text, seen.logprob) == (told.text, pytest.approx(told.logprob))
    assert [vars_of(item) for item in seen.retrieved] == [vars_of(item) for item in told.retrieved]
    assert repr(state(session)) != before, "the lender's own question does leave marks"


class Weighing(HashingRetriever):
    """Weighs a question by what the bank holds, as the default retriever does."""

    def weigh_query(self, query_E, mean_squares_E, held):
        return query_E / (mean_squares_E + 1 / held)


def test_its_questions_are_weighed_by_what_both_hold(session):
    session.retriever = Weighing(256)
    onlooker = aside(session)
    np.testing.assert_array_equal(onlooker.embed_query(QUESTION), session.embed_query(QUESTION))
    assert onlooker.embed_query(QUESTION).any()
    gone = sorted(session.gone)[:2]
    for chunk_id in gone:
        onlooker.restore(chunk_id, pin=False)
    held = np.stack([onlooker.bank.embedding(record.chunk_id) for record in onlooker.bank.records()])
    assert len(held) == len(session.bank) + len(gone)
    np.testing.assert_allclose(onlooker.bank.mean_squares(), np.square(held).mean(axis=0), atol=1e-6)


def vars_of(item):
    return item.chunk_id, item.trigger_count_before, item.trigger_count, round(item.score, 5)


def test_local_context_that_spills_stays_with_the_onlooker(session):
    before, onlooker = repr(state(session)), aside(session)
    onlooker.ask("Tell of all days. " * 20, AskOptions(max_tokens=80, retrieve_every=0))
    spilled = [record for record in onlooker.bank.records() if record.chunk_id not in session.bank]
    assert spilled and onlooker.documents[spilled[0].doc_id].text
    assert repr(state(session)) == before
    session.ask("Tell of all days. " * 20, AskOptions(max_tokens=80, retrieve_every=0))
    assert session.conversation().text == onlooker.documents[spilled[0].doc_id].text


def test_a_chunk_that_left_comes_back_in_it_alone(session):
    gone = sorted(session.gone)[:LENT_CHUNKS]
    before, onlooker = repr(state(session)), aside(session)
    for chunk_id in gone:
        onlooker.restore(chunk_id, pin=False)
    answer = onlooker.ask(QUESTION, AskOptions(max_tokens=2, forced=(gone[3],)))
    assert gone[3] in [item.chunk_id for item in answer.retrieved] and repr(state(session)) == before
    held = session.bank.records()[0].chunk_id
    keys = onlooker.bank.gather([gone[1], held]).keys_SNGCD
    session.restore(gone[1], pin=False)
    if gone[1] in session.bank:  # the policy may have let it go again
        torch.testing.assert_close(keys, session.bank.gather([gone[1], held]).keys_SNGCD)


def test_a_chunk_brought_back_is_found_by_search(session):
    gone = sorted(session.gone)[0]
    onlooker = aside(session)
    onlooker.restore(gone, pin=False)
    text = session.documents[0].text[slice(*session.gone[gone].span)]
    hits = onlooker.search(session.retriever.embed_documents([text])[0], 3)
    assert (
        hits[0].chunk_id == gone
        and len(hits) == 3
        and [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    )
    np.testing.assert_allclose(
        onlooker.bank.embedding(gone), session.retriever.embed_documents([text])[0], rtol=0, atol=1e-6
    )


def test_it_may_be_used_while_the_lender_reads_on(session):
    onlooker = aside(session)
    steps = onlooker.stream(QUESTION, AskOptions(max_tokens=12, retrieve_every=2))
    next(steps)
    session.read(" ".join(f"In year {i} nothing was written of wind {i}." for i in range(80)))
    *_, answer = steps
    assert answer.n_tokens and all(item.chunk_id < session.bank.ledger.clock for item in answer.retrieved)


def test_what_never_was_here_cannot_be_lent(session):
    onlooker = aside(session)
    with pytest.raises(BankError):
        onlooker.restore(10_000, pin=False)
    with pytest.raises(BankError, match="is not in the bank"):
        onlooker.ask(QUESTION, AskOptions(max_tokens=2, forced=(10_000,)))
    with pytest.raises(BankError, match="not in the bank"):
        onlooker.bank.get(10_000)
