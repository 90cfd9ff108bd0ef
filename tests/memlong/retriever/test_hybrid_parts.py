"""MiniLM and words score a chunk's parts: all by their words, the best two by MiniLM too, each chunk by itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from memlong.retriever import make_retriever
from memlong.retriever.base import Parts

QUESTION = "Who lost the ledger of Zorvin Calder at sea?"
CHUNKS = [
    ["Zorvin Calder kept a ledger.", "Rain fell on the hills.", "The ledger was lost at sea.", "A lamp burned."],
    ["Mirra Dunholt had no ledger.", "The bridge was of stone.", "Zorvin Calder kept a ledger."],
    ["Nothing is said here."],
]


def parted(chunks):
    """Return chunks of these parts; where in a chunk they stand is of no matter here."""
    return [Parts(((0, 1),) * len(texts), tuple(texts), 1, tuple(texts)) for texts in chunks]


@pytest.fixture
def build(bert_folder):
    # In a shorter number type a vector depends a little on the batch that it is embedded in.
    return lambda: make_retriever("hybrid", folder=bert_folder, device="cpu", dtype=torch.float32)


@pytest.fixture
def hybrid(build):
    return build()


@pytest.fixture
def embedded(hybrid, monkeypatch):
    """The texts that MiniLM is given, one list a call."""
    calls, real = [], hybrid.dense.embed_documents
    monkeypatch.setattr(hybrid.dense, "embed_documents", lambda texts: calls.append(list(texts)) or real(texts))
    return calls


def weighed(hybrid, text=QUESTION):
    """Return what a question searches with, without counting as a look at parts."""
    chunks_nE = hybrid.embed_documents([" ".join(texts) for texts in CHUNKS])
    return hybrid.weigh_query(hybrid.embed_query(text), np.square(chunks_nE).mean(axis=0), len(chunks_nE))


def by_hand(hybrid, query_E, texts):
    """Return the scores of one chunk's parts, and which of them MiniLM sees."""
    halves = query_E[: hybrid.dense.dim], query_E[hybrid.dense.dim :]
    dense_D, words_W = (half / np.linalg.norm(half) for half in halves)
    words, dense = hybrid.embed_words(texts) @ words_W, hybrid.dense.embed_documents(texts) @ dense_D
    best = sorted(range(len(texts)), key=lambda part: (-words[part], part))[:2]
    scores = 0.8 * words - 0.05
    scores[best] = 0.7 * words[best] + 0.3 * dense[best]
    return scores, best


def test_the_best_two_parts_are_seen_by_both_and_the_others_by_their_words(build, hybrid):
    query = weighed(hybrid)
    for texts, scores in zip(CHUNKS, hybrid.score_parts(query, parted(CHUNKS)), strict=True):
        want, best = by_hand(build(), query, texts)
        assert scores.shape == (len(texts),) and len(best) == min(2, len(texts))
        np.testing.assert_allclose(scores, want, atol=1e-5)
    one, other = hybrid.score_parts(query, parted(CHUNKS[:2]))
    assert one[0] == other[2], "the same words, seen in both"


def test_a_part_that_is_not_seen_is_scored_otherwise_than_one_that_is(build, hybrid):
    query, texts = weighed(hybrid), CHUNKS[0]
    _, best = by_hand(build(), query, texts)
    unseen = next(part for part in range(len(texts)) if part not in best)
    (together,), (alone,) = (hybrid.score_parts(query, parted([each])) for each in (texts, [texts[unseen]]))
    assert abs(together[unseen] - alone[0]) > 0.01


def test_other_chunks_asked_beside_it_change_nothing(build):
    query = weighed(build())
    together, backwards = (build().score_parts(query, parted(chunks)) for chunks in (CHUNKS, CHUNKS[::-1]))
    for at, texts in enumerate(CHUNKS):
        (alone,) = build().score_parts(query, parted([texts]))
        for scores in (together[at], backwards[::-1][at]):
            np.testing.assert_allclose(scores, alone, atol=1e-5)


def test_no_chunks_have_no_scores(hybrid, embedded):
    query = weighed(hybrid)
    embedded.clear()
    assert hybrid.score_parts(query, []) == [] and embedded == []


def test_a_chunk_without_any_text_is_scored_by_minilm_alone(hybrid):
    query, size = weighed(hybrid), hybrid.dense.dim
    cosine = hybrid.dense.embed_documents([""])[0] @ (query[:size] / np.linalg.norm(query[:size]))
    for chunks in ([[""]], [*CHUNKS, [""]]):
        np.testing.assert_allclose(hybrid.score_parts(query, parted(chunks))[-1], [0.3 * cosine], atol=1e-5)


def test_what_was_seen_of_late_is_not_embedded_again(hybrid, embedded):
    query, other = weighed(hybrid), weighed(hybrid, "Was the bridge of stone, and the hills in the rain?")
    embedded.clear()
    first = hybrid.score_parts(query, parted(CHUNKS))
    assert len(embedded) == 1 and len(embedded[0]) == len(set(embedded[0])) <= 2 + 2 + 1
    again = hybrid.score_parts(query, parted(CHUNKS))
    assert len(embedded) == 1 and all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    hybrid.score_parts(other, parted(CHUNKS))
    seen = list(itertools.chain(*embedded))
    assert len(embedded) == 2 and len(seen) == len(set(seen)), "of another question only what is new"


def test_only_so_many_vectors_of_parts_are_kept(build, hybrid, embedded, monkeypatch):
    monkeypatch.setattr(hybrid._parts, "most", 2)
    query, plain = weighed(hybrid), build()
    embedded.clear()
    for chunks in (CHUNKS[:1], CHUNKS[1:2], CHUNKS, CHUNKS[2:]):
        for texts, scores in zip(chunks, hybrid.score_parts(query, parted(chunks)), strict=True):
            np.testing.assert_allclose(scores, by_hand(plain, query, texts)[0], atol=1e-5)
        assert len(hybrid._parts) <= 2
    assert len(embedded) == 4, "all four looked at something new, or at what was given up"
    hybrid.score_parts(query, parted(CHUNKS[2:]))
    assert len(embedded) == 4 and len(hybrid._parts) == 1
