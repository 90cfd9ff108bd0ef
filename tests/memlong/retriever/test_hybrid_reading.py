"""With a cross-encoder the hybrid retriever reads the best few parts of a chunk with the question, once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memlong.retriever import make_retriever
from memlong.retriever.base import Parts
from memlong.retriever.recent import Recent

QUESTION = "Who lost the ledger of Zorvin Calder at sea?"
CHUNKS = [
    ("Zorvin Calder kept a ledger.", "Rain fell on the hills.", "The ledger was lost at sea.", "A ledger burned."),
    ("Mirra Dunholt had no ledger.", "The bridge was of stone.", "Zorvin Calder kept a ledger."),
    ("Nothing is said here.",),
]


def around(text):
    return f"Before it. {text} After it."


class Reader:
    """Finds every text as likely as it is long, and notes what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, tuple[str, ...]]] = []

    def logits(self, question, texts):
        self.given.append((question, tuple(texts)))
        return np.array([(len(text) - 45) / 3 for text in texts], dtype=np.float32)


def parted(chunks):
    return [
        Parts(tuple((at, at + 1) for at in range(len(texts))), texts, len(texts), tuple(around(text) for text in texts))
        for texts in chunks
    ]


@pytest.fixture
def hybrid(bert_folder, monkeypatch):
    made = make_retriever("hybrid", folder=bert_folder, device="cpu", dtype=torch.float32)
    assert made._cross_encoder is None, "the bundled one is made for other weights"
    made._cross_encoder = Reader()
    monkeypatch.setattr(made.dense, "embed_documents", None)
    monkeypatch.setattr("memlong.retriever.hybrid._READ", 2)
    return made


@pytest.fixture
def query(bert_folder):
    made = make_retriever("hybrid", folder=bert_folder, device="cpu", dtype=torch.float32)
    return made.embed_query(QUESTION)


def likely(text):
    return 1 / (1 + np.exp(-(len(around(text)) - 45) / 3 / 2))


def words_of(hybrid, query, texts):
    return hybrid.embed_words(texts) @ query[hybrid.dense.dim :] / np.linalg.norm(query[hybrid.dense.dim :])


def test_the_two_parts_with_most_words_are_read_with_what_stands_around_them(hybrid, query):
    found = hybrid.score_parts(query, parted(CHUNKS), QUESTION)
    ((question, texts),) = hybrid._cross_encoder.given
    words = [words_of(hybrid, query, each) for each in CHUNKS]
    best = [sorted(range(len(each)), key=lambda part, each=each: (-each[part], part))[:2] for each in words]
    read = {around(CHUNKS[at][part]) for at, parts in enumerate(best) for part in parts}
    assert question == QUESTION and set(texts) == read and len(texts) == len(read)
    for at, parts in enumerate(best):
        worst = min(likely(CHUNKS[at][part]) for part in parts)
        each = [likely(text) if part in parts else worst for part, text in enumerate(CHUNKS[at])]
        np.testing.assert_allclose(found[at], 0.7 * words[at] + 0.3 * np.array(each), atol=1e-5)


def test_of_two_parts_that_overlap_one_is_read(hybrid, query):
    """Three parts of 32 tokens that overlap by half: the middle one shares its tokens with both."""
    first, middle, last = "The ledger of Zorvin.", "Zorvin Calder lost the ledger at sea.", "Rain at sea."
    ranges = ((0, 32), (16, 48), (32, 64))
    for texts, want in (((first, middle, last), [middle]), ((middle, first, last), [middle, last])):
        hybrid._cross_encoder.given.clear()
        (found,) = hybrid.score_parts(query, [Parts(ranges, texts, 64, texts)], QUESTION)
        assert sorted(hybrid._cross_encoder.given[0][1]) == sorted(want)
        assert len(found) == 3
        hybrid._logits = Recent(9)


def test_a_chunk_of_none_of_the_words_is_scored_too(hybrid, query):
    (found,) = hybrid.score_parts(query, parted([("Nothing is said here.",)]), "Zebras?")
    words = words_of(hybrid, query, ["Nothing is said here."])
    assert found == pytest.approx(0.7 * words + 0.3 * likely("Nothing is said here."), abs=1e-5)


def test_a_question_is_read_once_with_each_part(hybrid, query):
    first = hybrid.score_parts(query, parted(CHUNKS), QUESTION)
    again = hybrid.score_parts(query, parted(CHUNKS), QUESTION)
    assert len(hybrid._cross_encoder.given) == 1
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    hybrid.score_parts(query, parted(CHUNKS[:1]), "Another question about the ledger?")
    assert len(hybrid._cross_encoder.given) == 2


def test_only_so_many_scores_are_kept(hybrid, query, monkeypatch):
    monkeypatch.setattr(hybrid._logits, "most", 4)
    for number in range(5):
        hybrid.score_parts(query, parted(CHUNKS[:1]), f"{QUESTION} {number}")
        assert len(hybrid._logits) <= 4


def test_without_a_question_vectors_are_compared(bert_folder, query):
    made = make_retriever("hybrid", folder=bert_folder, device="cpu", dtype=torch.float32)
    want = made.score_parts(query, parted(CHUNKS))
    made._cross_encoder = Reader()
    for question in ("", "  "):
        found = made.score_parts(query, parted(CHUNKS), question)
        assert all(np.array_equal(*pair) for pair in zip(found, want, strict=True))
    assert made._cross_encoder.given == []
    assert made.score_parts(query, [], QUESTION) == []


def test_it_doubts_by_how_much_the_best_logit_falls_short(hybrid, query):
    def best():
        return max((len(text) - 45) / 3 for _, texts in hybrid._cross_encoder.given for text in texts)

    doubts = []
    for chunks in (CHUNKS[:1], [("Too far.",)], [("No.", "Not it.")], [("No.",)]):
        hybrid._logits, hybrid._cross_encoder.given = Recent(9), []
        (found,) = hybrid.doubt(query, parted(chunks), QUESTION)
        doubts.append(found)
        assert found == pytest.approx(max(0.0, -1 - best()), abs=1e-3)
    assert doubts[0] == 0 and doubts[3] > doubts[2] > doubts[1] > 0


@pytest.mark.parametrize(
    ("logits", "doubts", "rivals"),
    [
        ([4.0, -1.0, -1.5], [0, 0, 0.5], [True, False, False]),
        ([-4.0, 6.0, 4.0], [5, 0, 0], [False, True, True]),
        ([-2.0, -8.0], [1, 2], [False, False]),
        ([-1.0, -6.0], [0, 0], [False, False]),
        ([9.0, 3.5, 6.5, 6.0], [0, 0.5, 0, 0], [True, False, True, True]),
    ],
)
def test_a_chunk_far_behind_the_best_is_doubted_and_a_near_one_its_rival(
    hybrid, query, monkeypatch, logits, doubts, rivals
):
    chunks = parted([(f"The lantern of number {at}.",) for at in range(len(logits))])
    by_text = {parts.around[0]: logit for parts, logit in zip(chunks, logits, strict=True)}
    read = lambda question, texts: np.float32([by_text[text] for text in texts])  # noqa: E731
    monkeypatch.setattr(hybrid._cross_encoder, "logits", read)
    found = hybrid.doubt(query, chunks, QUESTION)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, doubts, atol=1e-6)
    assert hybrid.rivals(query, chunks, QUESTION).tolist() == rivals
    assert hybrid.log_odds(query, chunks, QUESTION) == max(logits)


def test_a_chunk_that_tells_of_something_else_is_no_rival(hybrid, query, monkeypatch):
    monkeypatch.setattr(hybrid._cross_encoder, "logits", lambda question, texts: np.full(len(texts), np.float32(6)))
    chunks = parted([(QUESTION,), ("Rain fell on the hills.",), (f"{QUESTION} So it was.",)])
    assert hybrid.rivals(query, chunks, QUESTION).tolist() == [True, False, True]


def test_a_likelier_chunk_in_fewer_words_of_the_question_is_no_rival(hybrid, query, monkeypatch):
    chunks = parted([(QUESTION,), ("Rain fell on the lantern.",), (f"{QUESTION} So it was.",)])
    logits = {parts.around[0]: logit for parts, logit in zip(chunks, (5, 9, 5), strict=True)}
    monkeypatch.setattr(
        hybrid._cross_encoder, "logits", lambda question, texts: np.float32([logits[text] for text in texts])
    )
    assert hybrid.rivals(query, chunks, QUESTION).tolist() == [True, False, True]


def test_without_a_reader_a_question_or_chunks_nothing_is_doubted(hybrid, query):
    poor = parted([("No.",)])
    assert hybrid.doubt(query, poor, QUESTION).tolist() > [0]
    assert hybrid.doubt(query, [], QUESTION).shape == (0,) and hybrid.doubt(query, poor, " ").tolist() == [0]
    hybrid._cross_encoder = None
    assert hybrid.doubt(query, poor, QUESTION).tolist() == [0]
    assert hybrid.log_odds(query, poor, QUESTION) is None is hybrid.log_odds(query, [], QUESTION)
    assert hybrid.rivals(query, poor, QUESTION).tolist() == [False] and hybrid.rivals(query, [], QUESTION).shape == (0,)


@pytest.mark.parametrize(("logit", "likely", "doubt"), [(-1e4, 0.0, 9999.0), (-400, 0, 399), (0, 0.5, 0), (1e4, 1, 0)])
def test_logits_of_any_size_are_scores_and_doubts(hybrid, query, monkeypatch, logit, likely, doubt):
    monkeypatch.setattr(hybrid._cross_encoder, "logits", lambda question, texts: np.full(len(texts), np.float32(logit)))
    with np.errstate(all="raise"):
        (found,) = hybrid.score_parts(query, parted(CHUNKS[:1]), QUESTION)
        assert hybrid.doubt(query, parted(CHUNKS[:1]), QUESTION) == pytest.approx([doubt])
    np.testing.assert_allclose(found, 0.7 * words_of(hybrid, query, CHUNKS[0]) + 0.3 * likely, atol=1e-5)


def test_as_many_scores_are_kept_as_asked_for(bert_folder):
    few, many = (make_retriever("hybrid", folder=bert_folder, device="cpu") for _ in range(2))
    asked = few.embed_query(QUESTION)
    for made, most in ((few, 1), (many, 99)):
        made.keep_scores(most)
        made._cross_encoder = Reader()
        for _ in range(2):
            made.score_parts(asked, parted(CHUNKS), QUESTION)
    assert len(few._cross_encoder.given) == 2 and len(many._cross_encoder.given) == 1
