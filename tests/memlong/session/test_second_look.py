"""A question looks twice at what it finds: the best part of a chunk is half of its score."""

from __future__ import annotations

import numpy as np
import pytest

from memlong.config import AskOptions
from memlong.retriever.parts import cut_parts
from memlong.trace.events import Retrieved

QUESTIONS = (
    "Where stood the brass lantern of Ottoline Varga?",
    "Which wind did the harbour master write of on day 41?",
    "Which ships came from port 7 on day 7?",
    "Who wrote of the wind in the customs house?",
)
# The words of the last sentence, each of them twice, but never together.
SCATTERED = (
    "The lantern was oiled before the winter came and the boats were drawn up. Nobody in the town had brass to spare. "
    "Varga is a place in the hills that few have seen. Ottoline was a goat that ate the hay. The cellar was damp. "
    "In spring the brass was polished and sold to a man from the north. Ottoline slept under the stairs. "
    "They drank in the cellar until the morning. The road to Varga was closed by snow. A lantern burned all night."
)
TOGETHER = (
    "Rain fell for nine days and the river rose above the mill. The miller moved his sacks to the upper floor. "
    "His daughter counted them twice and wrote the number on the wall with a piece of coal. "
    "Ottoline Varga had a brass lantern in the cellar. "
    "When the water went down the bridge was gone, and two sheep were found in a tree behind the church."
)


@pytest.fixture
def make_read(make_session, long_text):
    """Return ``make_read(candidates, **settings)``: a session of chunks of several parts that read the text."""

    def build(candidates: int, **settings):
        made = make_session(chunk_tokens=128, window_tokens=128, rerank_candidates=candidates, **settings)
        made.read(long_text)
        return made

    return build


def by_hand(session, question, top_k, looked, documents=None, exclude=()):
    """Return (chunk id, score) of the best chunks, half by their own vector and half by that of their best part."""
    query_E, found = session.embed_query(question), {}
    for hit in session.bank.search(query_E, looked, documents, exclude):
        own, best = score_by_hand(session, query_E, hit.chunk_id)
        assert own == pytest.approx(hit.score, abs=1e-6)
        found[hit.chunk_id] = (own + best) / 2
    return sorted(found.items(), key=lambda each: (-each[1], each[0]))[:top_k]


def score_by_hand(session, query_E, chunk_id):
    record = session.bank.get(chunk_id)
    text = session.documents[record.doc_id].text[slice(*record.span)]
    parts = cut_parts(session.tokenizer, text, record.n_tokens)
    best = (session.retriever.embed_documents(parts.texts) @ query_E).max()
    return float(session.bank.embedding(chunk_id) @ query_E), float(best)


def same(hits, wanted):
    assert [hit.chunk_id for hit in hits] == [chunk_id for chunk_id, _ in wanted]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted], abs=1e-6)


def test_it_finds_what_one_computes_by_hand(make_read):
    session, moved = make_read(8), 0
    for question in QUESTIONS:
        query_E = session.embed_query(question)
        hits = session.search(query_E, 3)
        same(hits, by_hand(session, question, 3, looked=8))
        moved += [hit.chunk_id for hit in hits] != [hit.chunk_id for hit in session.bank.search(query_E, 3)]
    assert moved, "it decides something"


def test_off_it_finds_what_the_bank_does(make_read, monkeypatch):
    session = make_read(0)
    monkeypatch.setattr(session.retriever, "score_parts", None)
    for question in QUESTIONS:
        query_E = session.embed_query(question)
        assert session.search(query_E, 3) == session.bank.search(query_E, 3)


def test_the_sentence_asked_for_is_fetched_though_another_chunk_has_more_of_its_words(make_session):
    fetched = []
    for candidates in (0, 2):
        session = make_session(chunk_tokens=384, window_tokens=384, rerank_candidates=candidates)
        for text in (SCATTERED, TOGETHER, "Wind and rain. " * 20):
            session.read(text)
        assert len(session.bank) == 3, "a chunk each"
        answer = session.ask("Ottoline Varga, brass lantern, cellar?", top_k=1, max_tokens=2, retrieve_every=0)
        fetched.append([item.chunk_id for item in answer.retrieved])
    assert fetched == [[0], [1]]


def test_more_may_be_fetched_than_are_looked_at_and_then_all_are(make_read):
    session = make_read(2)
    for question in QUESTIONS:
        hits = session.search(session.embed_query(question), 6)
        assert len(hits) == 6
        same(hits, by_hand(session, question, 6, looked=6))


def test_fewer_held_chunks_than_are_looked_at_will_do(make_session):
    session = make_session(chunk_tokens=128, window_tokens=128, rerank_candidates=50)
    assert session.search(session.embed_query(QUESTIONS[0]), 3) == []
    session.read(TOGETHER)
    same(session.search(session.embed_query(QUESTIONS[0]), 3), by_hand(session, QUESTIONS[0], 3, looked=50))


def test_only_chunks_that_may_be_found_are_looked_at(make_read, long_text):
    session = make_read(5)
    session.read(long_text + " " + TOGETHER, "second")
    query_E = session.embed_query(QUESTIONS[0])
    masked = session.search(query_E, 1, {1})[0].chunk_id
    hits = session.search(query_E, 3, {1}, {masked})
    same(hits, by_hand(session, QUESTIONS[0], 3, 5, {1}, {masked}))
    assert {session.bank.get(hit.chunk_id).doc_id for hit in hits} == {1} and masked not in {h.chunk_id for h in hits}
    options = AskOptions(documents=(1,), masked=(masked,), max_tokens=2, retrieve_every=0)
    same(session.ask(QUESTIONS[0], options).retrieved, by_hand(session, QUESTIONS[0], 3, 5, {1}, {masked}))


def test_forced_chunks_are_scored_as_those_that_were_found(make_read):
    session = make_read(4)
    query_E = session.embed_query(QUESTIONS[0])
    best, *_, worst = (hit.chunk_id for hit in session.bank.search(query_E, len(session.bank)))
    for forced in (worst, best):
        answer = session.ask(QUESTIONS[0], forced=(forced,), max_tokens=2, retrieve_every=0)
        scores = {item.chunk_id: item.score for item in answer.retrieved}
        assert len(scores) == 3 and forced in scores
        for chunk_id, score in scores.items():
            assert score == pytest.approx(sum(score_by_hand(session, query_E, chunk_id)) / 2, abs=1e-6)
        assert [item.score for item in answer.retrieved] == sorted(scores.values(), reverse=True)
        told = session.recorder.filter(kind="Retrieved")[-1]
        assert isinstance(told, Retrieved) and {hit.chunk_id: hit.score for hit in told.hits} == scores


def test_relevance_is_of_the_chunks_that_the_second_look_fetched(make_read):
    answers = []
    for strength in (0.0, 8.0):
        session = make_read(8, relevance_strength=strength)
        want = by_hand(session, QUESTIONS[0], 3, looked=8)
        answers.append(session.ask(QUESTIONS[0], max_tokens=3, retrieve_every=0))
        same(answers[-1].retrieved, want)
    plain, graded = answers
    assert graded.memory_mass < plain.memory_mass and graded.logprob != plain.logprob


@pytest.mark.parametrize("candidates", [0, 4])
def test_low_evidence_is_judged_by_the_scores_that_were_given(make_read, monkeypatch, candidates):
    session, told = make_read(candidates), []

    def low_score(chunk_tokens: int, reranked: bool = False) -> float:
        told.append((chunk_tokens, reranked))
        return 9.0 if reranked else -9.0

    monkeypatch.setattr(session.retriever, "low_score", low_score)
    options = AskOptions(max_tokens=2, record_attention=False)  # without mass, scores alone decide
    assert session.ask(QUESTIONS[0], options).low_evidence is (candidates > 0)
    assert told == [(128, candidates > 0)]
    session.config = session.config.replace(low_score=-5.0)
    assert not session.ask(QUESTIONS[0], options).low_evidence and len(told) == 1, "a limit of one's own goes first"


@pytest.mark.parametrize(("candidates", "doubt", "low"), [(4, 0.5, True), (4, 0.0, False), (0, 0.5, False)])
def test_a_doubted_answer_is_one_of_low_evidence(make_read, monkeypatch, candidates, doubt, low):
    session, asked = make_read(candidates), []
    monkeypatch.setattr(session.retriever, "low_score", lambda *given: -9.0)
    monkeypatch.setattr(
        session.retriever, "doubt", lambda *given: asked.append(given[2]) or np.full(len(given[1]), doubt)
    )
    options = AskOptions(max_tokens=2, record_attention=False)
    assert session.ask(QUESTIONS[0], options).low_evidence is low
    assert asked == ([QUESTIONS[0]] if candidates else []), "once, where somebody looks at parts"
    session.config = session.config.replace(low_score=-5.0)
    assert not session.ask(QUESTIONS[0], options).low_evidence, "a limit of one's own goes first"
