"""Cut a document into chunks of equally many tokens, or of whole sentences, each an exact span of the text.

Long documents are tokenised in pieces, so that memory holds one piece and not a whole library. A piece is
encoded together with some text on both sides and only the tokens of its own part are kept: tokens near a cut
then come out as they would in one go, for byte-level BPE, SentencePiece and WordPiece alike (tests compare
them).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from memlong.errors import ConfigError, ModelError

PIECE_CHARACTERS = 65_536
CONTEXT_CHARACTERS = 512  # far beyond the reach of any merge across a cut
_SENTENCE_LOOK = 24  # characters: enough for what ends a sentence, and the word before
_SENTENCE_END = re.compile(
    r"""(?:[.!?\u2026]["'\u2019\u201d\u00bb)\]]*\s+|\n\s*|[\u3002\uff01\uff1f]["\u201d\u300d\u300f]*\s*)$"""
)
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|Mrs?|Ms|Dr|St|Prof|Rev|Capt|Col|Gen|No|vs|cf|e\.g|i\.e)\.\s+$")
_SURROGATE = re.compile("[\ud800-\udfff]")

Token = tuple[int, int, int]  # token id, start and end in characters


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of a document.

    ``span`` is (start, end) in characters. The spans of a document's chunks partition its text: they touch,
    never overlap, begin at 0 and end at its length. A character cut between two chunks belongs to the first.
    """

    index: int
    span: tuple[int, int]
    token_ids: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class PageSpan:
    """Characters ``start`` to ``end`` of a document carry a name such as "page 12" or "Chapter 3"."""

    start: int
    end: int
    label: str


def chunk_text(tokenizer: Any, text: str, chunk_tokens: int, whole_sentences: bool = False) -> list[Chunk]:
    """Cut ``text`` into chunks of ``chunk_tokens`` tokens; the last may be shorter. An empty text has none.

    Args:
        whole_sentences: end a chunk earlier, at the last end of a sentence or line in its second half if there is one.

    Raises:
        ConfigError: ``chunk_tokens`` is not positive.
        ModelError: the tokenizer cannot say which characters a token stands for.
    """
    return list(iter_chunks(tokenizer, text, chunk_tokens, whole_sentences))


def iter_chunks(tokenizer: Any, text: str, chunk_tokens: int, whole_sentences: bool = False) -> Iterator[Chunk]:
    """Yield what :func:`chunk_text` returns, one by one."""
    if chunk_tokens < 1:
        raise ConfigError(f"Chunks of {chunk_tokens} tokens", "At least 1", "Set chunk_tokens to 256, say")
    index, start = 0, 0
    ids: list[int] = []
    edges: list[int] = []  # for each token, where a chunk that ends before it would end
    covered = 0  # end of the last character that has a token
    known: dict[int, int] = {}  # one number for each kind of token, not for each token
    for token_id, token_start, token_end in iter_tokens(tokenizer, text):
        edge = max(covered, token_start)
        if len(ids) == chunk_tokens:
            cut = _sentence_cut(text, [*edges, edge]) if whole_sentences else chunk_tokens
            end = edges[cut] if cut < chunk_tokens else edge
            yield Chunk(index, (start, end), tuple(ids[:cut]))
            index, start, ids, edges = index + 1, end, ids[cut:], edges[cut:]
        ids.append(known.setdefault(token_id, token_id))
        edges.append(edge)
        if token_end > covered:
            covered = token_end
    if ids:
        yield Chunk(index, (start, len(text)), tuple(ids))


def _sentence_cut(text: str, edges: Sequence[int]) -> int:
    """Return how many tokens go into a chunk that ends with a sentence, or all.

    Args:
        edges: where a chunk of 0, 1, 2 ... tokens would end, up to a full one.
    """
    full = len(edges) - 1
    for tokens in range(full, full // 2, -1):
        at = edges[tokens]
        if edges[tokens - 1] < at and _sentence_ends(text, at):
            return tokens
    return full


def _sentence_ends(text: str, at: int) -> bool:
    """Whether a sentence or a line ends before a character, but for blanks."""
    while at < len(text) and text[at].isspace():
        at += 1
    before = text[max(0, at - _SENTENCE_LOOK) : at]
    return bool(_SENTENCE_END.search(before)) and not _ABBREVIATION.search(before) and not text[at : at + 1].islower()


def count_tokens(tokenizer: Any, text: str) -> int:
    """Return how many tokens ``text`` has, with memory for one piece of it only."""
    return sum(1 for _ in iter_tokens(tokenizer, text))


def iter_tokens(tokenizer: Any, text: str, piece_characters: int = PIECE_CHARACTERS) -> Iterator[Token]:
    """Yield (id, start, end) for every token of ``text``, without special tokens."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"The tokenizer {type(tokenizer).__name__} does not say which characters a token stands for",
            "A fast tokenizer (one with a tokenizer.json)",
            "Convert it once with AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained(folder)",
        )
    start = 0
    while start < len(text):
        end = min(start + piece_characters, len(text))
        for token in _piece(tokenizer, text, start, end):
            yield token
            if token[2] > start:
                start = token[2]
        # Characters without a token (blanks that the tokenizer drops) must not hold up the next piece.
        start = max(start, end)


def _piece(tokenizer: Any, text: str, start: int, end: int) -> list[Token]:
    """Return the tokens that begin in [start, end), encoded with context on both sides if any."""
    after = min(end + CONTEXT_CHARACTERS, len(text))
    for before in (max(start - CONTEXT_CHARACTERS, 0), start):
        tokens = _encode(tokenizer, text, before, after)
        straddles = any(token_start < start < token_end for _, token_start, token_end in tokens)
        if not straddles:
            break  # else the context made another token at the cut: without it nothing can straddle
    return [token for token in tokens if start <= token[1] < end]


def _encode(tokenizer: Any, text: str, start: int, end: int) -> list[Token]:
    piece = without_surrogates(text[start:end])
    special = special_texts(tokenizer)
    plain = any(name in piece for name in special)
    # What looks like a special token in a text is text: it must neither end a turn nor pass for a speaker.
    encoded = (_without_special(tokenizer) if plain else tokenizer)(
        piece,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        truncation=False,
        verbose=False,
        **({"split_special_tokens": True} if plain else {}),
    )
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [(token_id, start + first, start + last) for token_id, (first, last) in pairs]


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    """Return the texts that a tokenizer takes for special tokens (ends of turns, names of speakers)."""
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    return tuple(token.content for token in added.values() if token.special and len(token.content) > 1)


def _without_special(tokenizer: Any) -> Any:
    """Return a copy of a tokenizer for texts alone: the setting is kept in it, and other threads share the original."""
    copy = tokenizer.__dict__.get("_memlong_plain")
    if copy is None:
        copy = tokenizer.__dict__["_memlong_plain"] = deepcopy(tokenizer)
    return copy


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which no tokenizer takes, by one character each: offsets stay true."""
    return _SURROGATE.sub("\ufffd", text)


def place(spans: Sequence[PageSpan] | None, start: int, end: int) -> str:
    """Say where characters ``start`` to ``end`` stand: "page 12", "pages 12-13", "Chapter 3 to Chapter 4".

    Args:
        spans: in document order, not overlapping; gaps count to the span before them.

    Returns:
        "" where nothing has a name.
    """
    if not spans:
        return ""
    starts = [span.start for span in spans]
    first = max(bisect_right(starts, start) - 1, 0)
    last = max(bisect_right(starts, max(end - 1, start)) - 1, 0)
    if starts[last] > start and end <= starts[last]:
        return ""  # before the first name
    one, other = spans[first].label, spans[last].label
    if one == other:
        return one
    numbered = [re.fullmatch(r"(\D+) (\d+)", label) for label in (one, other)]
    if numbered[0] and numbered[1] and numbered[0][1] == numbered[1][1]:
        return f"{numbered[0][1]}s {numbered[0][2]}-{numbered[1][2]}"
    return f"{one} to {other}"
