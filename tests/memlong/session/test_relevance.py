"""An answer attends less to what its question is not about, as much less as the memory is told, and not by default."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from memlong.attention.context import MassObserver
from memlong.config import AskOptions, MemoryConfig
from memlong.errors import ConfigError
from memlong.evaluation.counterfactual import answer_logprob
from memlong.retriever.base import Place, Places
from memlong.session import relevance
from memlong.session.relevance import Query, relevance_of

QUESTION = "Who kept the ledger of every ship?"


@pytest.fixture
def session(make_session, long_text):
    made = make_session(chunk_tokens=128, window_tokens=128, top_k=2, relevance_strength=8.0)
    made.read(long_text)
    return made


def test_it_is_off_by_default(make_session, long_text):
    plain = make_session()
    plain.read(long_text)
    assert relevance_of(plain, Query(plain.embed_query(QUESTION), QUESTION), [0, 1]) is None


def test_it_is_a_bias_of_every_retrieved_token(session):
    query, ids = session.embed_query(QUESTION), [0, 2]
    found = relevance_of(session, Query(query, QUESTION), ids)
    assert found.shape == (1, 2 * 128) and found.max() == 0 and found.min() < 0
    assert relevance_of(session, Query(query, QUESTION), []) is None
    session.config = session.config.replace(relevance_strength=4.0)
    torch.testing.assert_close(relevance_of(session, Query(query, QUESTION), ids), found / 2)


def test_answering_reads_memory_through_it(session, monkeypatch):
    seen = []
    real = relevance.relevance_of

    def noted(*given):
        seen.append(real(*given))
        return seen[-1]

    monkeypatch.setattr(relevance, "relevance_of", noted)
    graded = session.ask(QUESTION, AskOptions(max_tokens=4))
    monkeypatch.setattr(relevance, "relevance_of", lambda *given: None)
    plain = session.ask(QUESTION, AskOptions(max_tokens=4))
    assert len(seen) == 1 and [e.chunk_id for e in graded.retrieved] == [e.chunk_id for e in plain.retrieved]
    assert graded.memory_mass < plain.memory_mass and graded.logprob != plain.logprob


def test_attention_moves_to_the_relevant_tokens(session):
    """With a chunk's tokens one "chunk" each, their mass is that without relevance times exp(r), shared out anew."""
    model, ids = session.model, [0, 1]
    gathered = session.bank.gather(ids, model.dtype, model.device)
    context = model.memory(gathered.keys_SNGCD, gathered.values_SNGCD, session.bank.lengths(ids))
    layer = min(context.layers)  # the lowest one: its queries depend on no memory yet
    bias = relevance_of(session, Query(session.embed_query(QUESTION), QUESTION), ids)
    mass = []
    for added in (None, bias):
        observer = MassObserver()
        each = replace(context, relevance_BM=added, observer=observer, chunk_tokens=1)
        with torch.no_grad():
            model.forward(torch.tensor([[5, 6, 7]]), each)
        mass.append(observer.take()[layer][0, :, -1].double())
    want = mass[0] * bias[0].double().exp()
    want = want / (want.sum(-1, keepdim=True) + 1 - mass[0].sum(-1, keepdim=True))
    torch.testing.assert_close(mass[1], want, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ConfigError, match="relevance_strength"):
        MemoryConfig(relevance_strength=strength)


def test_doubt_lowers_all_of_a_chunk(session, monkeypatch):
    query, ids = session.embed_query(QUESTION), [0, 2]
    sure = relevance_of(session, Query(query, QUESTION), ids)
    told = np.array([0.5, 0.25])
    monkeypatch.setattr(session.retriever, "doubt", lambda vector, parts, asked: told * (asked == QUESTION))
    lowered = 8.0 * torch.tensor(told, dtype=torch.float32).repeat_interleave(session.config.chunk_tokens)
    torch.testing.assert_close(relevance_of(session, Query(query, QUESTION), ids), sure - lowered)
    torch.testing.assert_close(relevance_of(session, Query(query, "Another?"), ids), sure)


def doubted(monkeypatch, session, *doubts, forced=()):
    told = np.array(doubts, dtype=np.float64)
    monkeypatch.setattr(session.retriever, "doubt", lambda vector, parts, asked: told[: len(parts)])
    answer = session.ask(QUESTION, AskOptions(max_tokens=2, top_k=2, retrieve_every=0, forced=forced))
    assert told.tolist() == [*doubts], "what a retriever returned is its own"
    return answer


def test_memory_is_looked_at_less_in_doubt(session, monkeypatch):
    mass = [doubted(monkeypatch, session, doubt, doubt).memory_mass for doubt in (0.0, 0.2, 2.0)]
    assert mass[0] > mass[1] > mass[2] and mass[2] < 0.01


def test_a_doubted_chunk_leaves_the_others_to_be_looked_at(session, monkeypatch):
    def masses(answer):
        return [item.attention_mass for item in sorted(answer.retrieved, key=lambda item: item.chunk_id)]

    both, first = doubted(monkeypatch, session, 0, 0), doubted(monkeypatch, session, 0, 2)
    assert masses(first)[1] < 0.01 < masses(both)[1]
    assert masses(first)[0] >= masses(both)[0] and not first.low_evidence
    assert doubted(monkeypatch, session, 0.1, 2).low_evidence


def test_a_chunk_that_somebody_wants_in_memory_is_not_doubted(session, monkeypatch):
    both = {item.chunk_id: item.attention_mass for item in doubted(monkeypatch, session, 0, 0).retrieved}
    first, second = sorted(both)
    doubt = {item.chunk_id: item.attention_mass for item in doubted(monkeypatch, session, 2, 2).retrieved}
    wanted = doubted(monkeypatch, session, 2, 2, forced=(second,))
    assert [item.chunk_id for item in wanted.retrieved if item.chunk_id == second] == [second] and wanted.low_evidence
    mass = {item.chunk_id: item.attention_mass for item in wanted.retrieved}
    assert max(doubt.values()) < 0.01 and mass[first] < 0.01 < both[second] <= mass[second]
    told = replace(AskOptions(), forced=(second,))
    ids = sorted(mass)
    weighed = [answer_logprob(session, QUESTION, wanted.token_ids, ids, options=each) for each in (told, AskOptions())]
    assert weighed[0] == pytest.approx(wanted.logprob, abs=1e-3) and weighed[0] != weighed[1]


def test_a_chunk_that_is_surely_pointed_at_is_not_doubted(session, monkeypatch):
    session.config = session.config.replace(pointing_strength=1.0)
    shares = [0.0, 0.0]

    def point(query_E, chunks, question):
        return Places(tuple(Place(n, (0, 5), share) for n, share in enumerate(shares)), 1 - sum(shares))

    monkeypatch.setattr(session.retriever, "point", point)
    for shares[1], surely in ((0.5, False), (0.6, True)):
        answer = doubted(monkeypatch, session, 2, 2)
        masses = [item.attention_mass for item in sorted(answer.retrieved, key=lambda item: item.chunk_id)]
        assert masses[0] < 0.01 and (masses[1] > 0.01) == surely and answer.low_evidence != surely


@pytest.fixture
def rivals(monkeypatch, make_session, long_text):
    """Return ``rivals(mask, forced)``: what recency alone adds to five chunks of two documents, one number each."""
    session = make_session(recency_strength=3.0)
    session.read(long_text)
    session.read("Another text. " + long_text)
    second = min(record.chunk_id for record in session.bank.records() if record.doc_id == 1)
    ids = [2, 4, 7, second, second + 1]

    def found(*mask: bool, forced=()) -> list[float]:
        monkeypatch.setattr(session.retriever, "rivals", lambda vector, parts, asked: np.array(mask))
        bias = relevance_of(session, Query(session.embed_query(QUESTION), QUESTION, forced), ids)
        rows = bias.view(len(ids), -1)
        assert torch.equal(rows, rows[:, :1].expand_as(rows))
        return rows[:, 0].tolist()

    return found


def test_of_rivals_in_a_document_the_later_one_counts(rivals):
    assert rivals(True, True, True, True, True) == [-6.0, -3.0, 0.0, -3.0, 0.0]
    assert rivals(True, False, True, False, True) == [-3.0, 0.0, 0.0, 0.0, 0.0]
    assert rivals(True, False, False, True, False) == [0.0] * 5, "another document's is no later telling"
    assert rivals(False, False, False, False, False) == [0.0] * 5


def test_a_forced_chunk_is_no_earlier_telling_and_supersedes_none(rivals):
    assert rivals(True, True, True, False, False, forced=(2,)) == [0.0, -3.0, 0.0, 0.0, 0.0]
    assert rivals(True, True, True, False, False, forced=(7,)) == [-3.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_a_recency_that_is_none_is_refused(strength):
    with pytest.raises(ConfigError, match="recency_strength"):
        MemoryConfig(recency_strength=strength)


def test_recency_alone_and_relevance_add_up(make_session, long_text, monkeypatch):
    parts = {}
    for name, settings in (
        ("relevance", {"relevance_strength": 4.0}), ("recency", {"recency_strength": 2.0}),
        ("both", {"relevance_strength": 4.0, "recency_strength": 2.0}),
    ):  # fmt: skip
        session = make_session(**settings)
        session.read(long_text)
        monkeypatch.setattr(session.retriever, "rivals", lambda vector, chunks, asked: np.ones(len(chunks), bool))
        parts[name] = relevance_of(session, Query(session.embed_query(QUESTION), QUESTION), [1, 3, 5])
    assert parts["recency"].min() == -4.0 and parts["relevance"].min() < 0
    torch.testing.assert_close(parts["both"], parts["relevance"] + parts["recency"])


def test_evidence_says_what_was_told_anew_later(make_session, long_text, monkeypatch):
    def superseded(**settings) -> list[bool]:
        session = make_session(**settings)
        session.read(long_text)
        monkeypatch.setattr(session.retriever, "rivals", lambda vector, parts, asked: np.ones(len(parts), bool))
        answer = session.ask(QUESTION, AskOptions(max_tokens=1, top_k=3))
        return [item.superseded for item in sorted(answer.retrieved, key=lambda item: item.chunk_id)]

    assert superseded(recency_strength=2.0) == [True, True, False] and superseded() == [False] * 3


def test_parts_are_cut_once_while_a_chunk_is_held_and_few_are_kept(make_session, long_text, monkeypatch):
    session = make_session()
    session.read(long_text)
    cut: list[str] = []
    real = relevance.cut_parts
    monkeypatch.setattr(relevance, "cut_parts", lambda *given: cut.append(given[1]) or real(*given))
    monkeypatch.setattr(relevance, "_KEPT", 3)
    first = relevance.parts_of(session, [0, 1])
    assert relevance.parts_of(session, [1, 0]) == first[::-1] and len(cut) == 2
    assert len(relevance.parts_of(session, [4, 5, 6, 7])) == 4 and len(session.parts) == 3
    session.delete_chunk(7)
    relevance.parts_of(session, [6])
    assert 7 not in session.parts and len(cut) == 6
