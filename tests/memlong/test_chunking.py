"""Chunks are exact spans, however the text is tokenised."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from memlong import chunking
from memlong.chunking import Chunk, PageSpan, chunk_text, count_tokens, iter_tokens, place
from memlong.errors import ConfigError, ModelError

SAMPLE = (
    "It was the best of times, it was the worst of times.\n\nChapter 1\tAnna's  boat - 1859 tons - "
    "lay at Łódź. 你好，世界！ 🙂🙃 naïve\r\n   indented   text\n" * 12
)


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([SAMPLE], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return tokenizer


def _llama_like() -> Tokenizer:
    """BPE over the whole text as one word, blanks as ▁, unknown characters as bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    plain = SAMPLE.encode("ascii", "ignore").decode()
    words = [word for line in plain.splitlines() for word in line.split(" ")]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", *bytes_])
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"])
    tokenizer.train_from_iterator([SAMPLE], trainer)
    tokenizer.enable_truncation(8)  # as all-MiniLM-L6-v2 has it baked in: must not cut documents
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"])
    tokenizer.train_from_iterator([SAMPLE], trainer)
    return tokenizer


MAKERS = {
    "byte_level": _byte_level,
    "llama_like": _llama_like,
    "word_piece": _word_piece,
    "unigram": _unigram,
}


@pytest.fixture(scope="module", params=sorted(MAKERS))
def tokenizer(request):
    return PreTrainedTokenizerFast(tokenizer_object=MAKERS[request.param](), model_max_length=16)


@pytest.fixture(scope="module")
def byte_tokenizer():
    return PreTrainedTokenizerFast(tokenizer_object=_byte_level())


def assert_partition(chunks: list[Chunk], text: str) -> None:
    assert "".join(text[slice(*chunk.span)] for chunk in chunks) == text
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    edges = [0, *(chunk.span[1] for chunk in chunks)]
    assert [chunk.span[0] for chunk in chunks] == edges[:-1]


def test_chunks_partition_the_text_and_keep_every_token(tokenizer):
    chunks = chunk_text(tokenizer, SAMPLE, 16)
    assert_partition(chunks, SAMPLE)
    assert {chunk.n_tokens for chunk in chunks[:-1]} == {16}
    ids = [token for chunk in chunks for token in chunk.token_ids]
    assert ids == tokenizer(SAMPLE, add_special_tokens=False, truncation=False)["input_ids"]
    assert count_tokens(tokenizer, SAMPLE) == len(ids)


@pytest.mark.parametrize("piece", [600, 701, 1024])
def test_pieces_give_the_tokens_of_the_whole_text(tokenizer, piece):
    text = SAMPLE * 5
    whole = list(iter_tokens(tokenizer, text, piece_characters=10**9))
    assert list(iter_tokens(tokenizer, text, piece_characters=piece)) == whole


def test_long_documents_are_never_encoded_whole(byte_tokenizer, monkeypatch):
    lengths = []
    encode = chunking._encode

    def recorded(tokenizer, text, start, end):
        lengths.append(end - start)
        return encode(tokenizer, text, start, end)

    monkeypatch.setattr(chunking, "_encode", recorded)
    text = SAMPLE * 100
    assert_partition(chunk_text(byte_tokenizer, text, 64), text)
    assert len(text) > 2 * chunking.PIECE_CHARACTERS
    assert max(lengths) <= chunking.PIECE_CHARACTERS + 2 * chunking.CONTEXT_CHARACTERS


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.characters(), max_size=200), size=st.integers(1, 9), piece=st.integers(1, 40))
def test_any_text_is_partitioned(byte_tokenizer, text, size, piece):
    assert_partition(chunk_text(byte_tokenizer, text, size), text)
    covered = 0
    for _, start, end in iter_tokens(byte_tokenizer, text, piece_characters=piece):
        assert start <= covered <= max(covered, end)
        covered = max(covered, end)
    assert covered == len(text)


def test_a_character_cut_between_chunks_belongs_to_the_first(byte_tokenizer):
    text = "a🙂b"
    chunks = chunk_text(byte_tokenizer, text, 2)
    assert_partition(chunks, text)
    assert chunks[0].span == (0, 2)


def test_blanks_that_the_tokenizer_drops_stay_in_a_span():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_word_piece())
    text = "   the  best   of times" + " " * 3000 + "the worst  "
    chunks = chunk_text(tokenizer, text, 2)
    assert_partition(chunks, text)
    assert list(iter_tokens(tokenizer, text, piece_characters=700)) == list(iter_tokens(tokenizer, text))


def test_a_lone_surrogate_keeps_its_place(byte_tokenizer):
    text = "before \ud800 after"
    assert_partition(chunk_text(byte_tokenizer, text, 3), text)


def test_an_empty_text_has_no_chunks(byte_tokenizer):
    assert chunk_text(byte_tokenizer, "", 4) == []


def test_refusals_say_what_to_do(byte_tokenizer):
    with pytest.raises(ConfigError, match="At least 1"):
        chunk_text(byte_tokenizer, "text", 0)
    with pytest.raises(ModelError, match="fast tokenizer"):
        chunk_text(object(), "text", 4)


PAGES = [PageSpan(0, 10, "page 1"), PageSpan(10, 20, "page 2"), PageSpan(20, 30, "page 3")]


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (0, 10, "page 1"),
        (9, 10, "page 1"),
        (9, 11, "pages 1-2"),
        (10, 10, "page 2"),
        (5, 30, "pages 1-3"),
        (35, 40, "page 3"),
    ],
)
def test_place_names_pages(start, end, words):
    assert place(PAGES, start, end) == words


def test_place_names_chapters_and_nothing():
    chapters = [PageSpan(5, 10, "Chapter One"), PageSpan(10, 20, "Epilogue")]
    assert place(chapters, 6, 12) == "Chapter One to Epilogue"
    assert place(chapters, 0, 4) == ""
    assert place([], 0, 4) == place(None, 0, 4) == ""
    assert place([PageSpan(0, 5, "same"), PageSpan(5, 9, "same")], 0, 9) == "same"
