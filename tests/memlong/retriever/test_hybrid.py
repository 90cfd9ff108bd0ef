"""MiniLM and words side by side: each has its share, and names that no embedder knows are found."""

from __future__ import annotations

import numpy as np
import pytest

from memlong.errors import RetrieverError
from memlong.retriever import make_retriever

TEXTS = ["The ledger of Zorvin Calder was lost.", "The ledger of Mirra Dunholt was lost.", "Rain fell on the hills."]


@pytest.fixture(scope="module")
def hybrid(bert_folder):
    return make_retriever("hybrid", folder=bert_folder, device="cpu")


def test_a_score_between_texts_is_the_weighed_mean_of_two_cosines(hybrid):
    both = hybrid.embed_documents(TEXTS)
    assert both.shape == (3, hybrid.dim) and hybrid.dim == hybrid.dense.dim + hybrid.words
    dense, words = hybrid.dense.embed_documents(TEXTS), hybrid.embed_words(TEXTS)
    np.testing.assert_allclose(both @ both.T, 0.8 * dense @ dense.T + 0.2 * words @ words.T, atol=1e-5)


def test_a_name_decides_between_texts_that_are_alike(hybrid):
    for name, place in (("Zorvin", 0), ("Dunholt", 1)):
        scores = hybrid.embed_words(TEXTS) @ hybrid.embed_words([f"What was lost by {name}?"])[0]
        assert int(np.argmax(scores)) == place


def test_what_every_chunk_says_hardly_counts_in_a_question(hybrid):
    chunks = hybrid.embed_documents(
        ["Zenda lies in Ruritania, and the prisoner of Zenda saw the harbour.", "Zenda has a castle with a dungeon.",
         "The prisoner of Zenda was a king.", "A king of Zenda will not be taken as a prisoner lightly."]
    )  # fmt: skip
    plain = hybrid.embed_query("Of the prisoner of Zenda: who was in a dungeon of the castle?")
    weighed = hybrid.weigh_query(plain, np.square(chunks).mean(axis=0), len(chunks))
    assert plain.shape == weighed.shape
    size = hybrid.dense.dim
    before, after = (chunks[:, size:] @ query[size:] for query in (plain, weighed))
    assert int(np.argmax(before)) != 1 and int(np.argmax(after)) == 1
    zenda, castle = (int(np.abs(hybrid.embed_words([word])[0]).argmax()) for word in ("zenda", "castle"))
    assert plain[size + zenda] != 0 and abs(weighed[size + zenda]) < 0.15 * abs(weighed[size + castle])


def test_a_question_s_words_weigh_as_inverse_document_frequencies_say(hybrid):
    texts = [*TEXTS, "The hills were far."]
    chunks, question = hybrid.embed_documents(texts), hybrid.embed_query("Was the ledger of Zorvin lost?")
    # Words of alike chunks, so that moments tell shares of chunks: "the" is in all four, the ledger in two.
    words = np.where(hybrid.embed_words(texts) != 0, 0.25, 0.0)
    squares = np.concatenate([np.zeros(hybrid.dense.dim), np.square(words).mean(axis=0)]).astype(np.float32)
    weighed, size = hybrid.weigh_query(np.stack([question, question]), squares, 4), hybrid.dense.dim

    def weight(word):
        place = int(np.abs(hybrid.embed_words([word])[0]).argmax())
        return weighed[1, size + place] / question[size + place]

    ratio = np.log(1 + 3.5 / 1.5) / np.log(1 + 2.5 / 2.5)  # of four chunks one has the name, two the ledger
    np.testing.assert_allclose(weight("zorvin") / weight("ledger"), ratio, rtol=1e-4)
    own = weighed[1, size:] / np.linalg.norm(weighed[1, size:])
    cosines = chunks[0, :size] @ question[:size] / np.linalg.norm(chunks[0, :size]) / np.linalg.norm(question[:size])
    want = 0.2 * cosines + 0.8 * own @ chunks[0, size:] / np.linalg.norm(chunks[0, size:])
    np.testing.assert_allclose(weighed[1] @ chunks[0], want, atol=1e-5)
    assert np.array_equal(hybrid.weigh_query(question, np.zeros(hybrid.dim), 0), question), "an empty bank"


def test_a_question_about_a_single_chunk_still_finds_its_words(hybrid):
    chunk, size = hybrid.embed_documents(TEXTS[:1]), hybrid.dense.dim
    weighed = hybrid.weigh_query(hybrid.embed_query("Who lost the ledger?"), np.square(chunk).mean(axis=0), 1)
    other = hybrid.weigh_query(hybrid.embed_query("Why was Mirra so sad?"), np.square(chunk).mean(axis=0), 1)
    assert (
        chunk[0, size:] @ weighed[size:] > 2 * abs(chunk[0, size:] @ other[size:])
        and chunk[0, size:] @ weighed[size:] > 0.1
    )


def test_words_that_share_a_place_do_not_add_up(bert_folder):
    crowded = make_retriever("hybrid", folder=bert_folder, device="cpu", words=16)
    vectors = crowded.embed_words([" ".join(f"word{number}" for number in range(200)), "one"])
    assert set(np.unique(np.abs(vectors[0]))) == {0.25} and np.array_equal(vectors, crowded.embed_words(
        [" ".join(f"word{number}" for number in reversed(range(200))), "one"]))  # fmt: skip


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


def test_a_longer_chunk_scores_low_sooner(hybrid):
    assert hybrid.low_score(64) == pytest.approx(0.15) and hybrid.low_score(256) == pytest.approx(0.11, abs=0.005)


@pytest.mark.parametrize("chunk_tokens", [64, 256])
def test_half_of_a_low_score_after_a_second_look_is_a_part_s(hybrid, chunk_tokens):
    whole = hybrid.low_score(chunk_tokens)
    assert hybrid.low_score(chunk_tokens, reranked=True) == pytest.approx(0.5 * whole + 0.1) != whole
