"""Chunks of whole sentences partition a text as others do, and end where a sentence or a line does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlong.bank.capacity import Capacity
from memlong.chunking import chunk_text, iter_tokens
from memlong.config import MemoryConfig
from memlong.errors import ConfigError

STORY = (
    "Mr. Vane kept the lamp. Who lit it? “Nobody,” said A. Moss. " * 6 + "Then\n\nit went out for good and all. " * 6
)
SENTENCE_STARTS = ("Mr. Vane", "Who", "“Nobody", "it went", "Then")


@given(
    text=st.text(alphabet=st.sampled_from("aBc.?!\"' \n。é"), min_size=1, max_size=300),
    size=st.integers(1, 24),
)
def test_they_partition_any_text_into_all_of_its_tokens(tiny_tokenizer, text, size):
    chunks = chunk_text(tiny_tokenizer, text, size, whole_sentences=True)
    tokens = [token_id for token_id, _, _ in iter_tokens(tiny_tokenizer, text)]
    assert [token for chunk in chunks for token in chunk.token_ids] == tokens
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    edges = [0, *(chunk.span[1] for chunk in chunks)]
    assert [chunk.span for chunk in chunks] == list(pairwise(edges))
    assert not chunks or edges[-1] == len(text)
    assert all(size // 2 < chunk.n_tokens <= size for chunk in chunks[:-1])


def test_they_begin_with_a_sentence_or_a_line(tiny_tokenizer):
    chunks = chunk_text(tiny_tokenizer, STORY, 40, whole_sentences=True)
    assert len(chunks) > 8
    for chunk in chunks:
        assert STORY[slice(*chunk.span)].lstrip().startswith(SENTENCE_STARTS)
    plain = chunk_text(tiny_tokenizer, STORY, 40)
    assert not all(STORY[slice(*chunk.span)].lstrip().startswith(SENTENCE_STARTS) for chunk in plain)


@pytest.mark.parametrize("text", ["one two three four " * 20, "Mr. " * 60, "e.g. the " * 30, "A. B. C. " * 30])
def test_a_text_without_an_end_of_a_sentence_is_cut_at_tokens(tiny_tokenizer, text):
    assert chunk_text(tiny_tokenizer, text, 16, whole_sentences=True) == chunk_text(tiny_tokenizer, text, 16)


def test_sentences_end_without_blanks_where_none_are_written(tiny_tokenizer):
    text = "灯は消えた。誰も見なかった。" * 20
    for chunk in chunk_text(tiny_tokenizer, text, 64, whole_sentences=True):
        assert text[slice(*chunk.span)].endswith("。")


def test_a_bank_has_room_for_chunks_that_are_not_full():
    full, short = Capacity.of(8192, 256), Capacity.of(8192, 256, short=True)
    assert (full.slots, short.slots) == (32, 36) and full.tokens == short.tokens
    assert short.changed(4096, 256) == Capacity(4096, 18) and full.changed(4096, 256) == Capacity(4096, 16)


def test_other_ends_are_refused():
    with pytest.raises(ConfigError, match="sentences"):
        MemoryConfig(chunk_ends="sentence")
