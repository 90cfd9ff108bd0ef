"""Parts of a chunk cover it, are scored by the vector that found it, and say which tokens matter."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memlong.chunking import chunk_text
from memlong.retriever.base import Parts
from memlong.retriever.hashing import HashingRetriever
from memlong.retriever.parts import cut_parts, relevance

TEXT = "The harbour master kept a ledger of every ship. " * 6 + "A lamp, a rope and salt were lost in the third year."


@given(n_tokens=st.integers(1, 90), size=st.integers(1, 40))
def test_parts_overlap_by_half_and_cover_every_token(tiny_tokenizer, n_tokens, size):
    chunk = chunk_text(tiny_tokenizer, TEXT, n_tokens)[0]
    parts = cut_parts(tiny_tokenizer, TEXT[slice(*chunk.span)], chunk.n_tokens, size)
    covered = np.zeros(chunk.n_tokens, int)
    for start, end in parts.ranges:
        covered[start:end] += 1
        assert end - start <= size
    assert covered.min() >= 1 and covered.max() <= 3
    assert len(parts.texts) == len(parts.ranges) and parts.n_tokens == chunk.n_tokens
    assert parts.texts[0] in TEXT and parts.texts[-1] in TEXT


def test_texts_are_those_of_the_tokens(tiny_tokenizer):
    chunk = chunk_text(tiny_tokenizer, TEXT, 48)[1]
    text = TEXT[slice(*chunk.span)]
    parts = cut_parts(tiny_tokenizer, text, chunk.n_tokens, 16)
    for (start, end), part in zip(parts.ranges, parts.texts, strict=True):
        assert part.strip() == tiny_tokenizer.decode(chunk.token_ids[start:end]).strip()
    for (start, end), around in zip(parts.ranges, parts.around, strict=True):
        assert around.strip() == tiny_tokenizer.decode(chunk.token_ids[max(0, start - 8) : end + 8]).strip()


def test_a_chunk_whose_text_has_fewer_tokens_than_it_had_loses_none(tiny_tokenizer):
    parts = cut_parts(tiny_tokenizer, "A lamp", 40, 16)
    assert parts.ranges[-1][1] == 40 and "".join(parts.texts).startswith("A lamp")
    assert cut_parts(tiny_tokenizer, "", 3).texts == ("",)


def test_the_part_with_the_words_asked_for_is_the_best(tiny_tokenizer):
    retriever = HashingRetriever(512)
    chunk = chunk_text(tiny_tokenizer, TEXT, 200)[0]
    parts = cut_parts(tiny_tokenizer, TEXT, chunk.n_tokens, 16)
    (scores,) = retriever.score_parts(retriever.embed_query("Who lost the lamp, the rope and the salt?"), [parts])
    assert "lamp" in parts.texts[int(scores.argmax())]
    found = relevance([parts], [scores], 256)
    at = TEXT.index("lamp")
    spans = tiny_tokenizer(TEXT, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    token = next(i for i, (start, end) in enumerate(spans) if start <= at < end)
    assert found[0, token] == 0 and found.max() == 0 and found[0, 0] < 0
    assert not found[0, chunk.n_tokens :].any()


def test_relevance_is_the_best_score_around_a_token_less_the_best_of_all():
    first = Parts(((0, 4), (2, 6)), (), 6, ())
    second = Parts(((0, 3),), (), 3, ())
    found = relevance([first, second], [np.float32([0.1, 0.5]), np.float32([0.3])], 8)
    np.testing.assert_allclose(found[0], [-0.4, -0.4, 0, 0, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], [-0.2, -0.2, -0.2, 0, 0, 0, 0, 0], atol=1e-6)
    assert relevance([], [], 8).shape == (0, 8)


def test_scores_are_dealt_out_chunk_by_chunk(tiny_tokenizer):
    retriever = HashingRetriever(64)
    parts = [cut_parts(tiny_tokenizer, text, n, 8) for text, n in (("A lamp was lost.", 5), (TEXT, 60))]
    query = retriever.embed_query("lamp")
    together = retriever.score_parts(query, parts)
    for each, scores in zip(parts, together, strict=True):
        np.testing.assert_allclose(scores, retriever.embed_documents(each.texts) @ query, atol=1e-6)
