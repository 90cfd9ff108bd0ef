"""Words of an answer spelt as the text that was retrieved for it spells them.

A small model copies a name piece by piece, and may lose one on the way: "Dlel Passage" for Dorlel Passage, the more so
since the same word is cut differently at the start of an answer than in the middle of a text. So while a word is being
written that begins like a word of the retrieved text, tokens that go on as no such word does lose some logits. Which
words are written, and where one ends, is left to the model, and so is every word that begins like none of these; but
another ending than the text has (a plural) loses them too, and stands only where the model is surer than that.

A soft form of decoding that is held to what a text contains (De Cao et al., arXiv 2010.00904, with a prefix tree).

Shapes: V vocabulary.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

from torch import Tensor

_WORD = re.compile(r"[^\W\d_]+")
_BEGUN = re.compile(r"[^\W\d_]+\Z")
_CANDIDATES = 48  # likeliest tokens that are looked at; the others are no rivals


class Spelling:
    """The words of some texts, and what they make of the next token's logits.

    Args:
        tokenizer: the model's. strength: logits that a token loses; 0 leaves all as they are.
    """

    def __init__(self, tokenizer: Any, strength: float) -> None:
        self._tokenizer, self._strength = tokenizer, strength
        self._known: set[str] = set()
        self._words: list[str] = []  # sorted, so that those with a prefix stand together

    def learn(self, text: str) -> None:
        """Add the words of a text, where its letters have cases: of the others many are written without blanks."""
        if not self._strength:
            return
        for word in set(_WORD.findall(_alike(text))) - self._known:
            self._known.add(word)
            if word != word.upper():
                insort(self._words, word)

    def adjust(self, logits_V: Tensor, text: str, tokens: Sequence[int]) -> Tensor:
        """Return the logits of the token after ``tokens``, the answer so far, whose text is ``text``."""
        begun = _BEGUN.search(_alike(text)) if self._words and tokens else None
        if begun is None or not self._begins_a_word(begun.group()):
            return logits_V
        likely = logits_V.topk(min(_CANDIDATES, len(logits_V))).indices.tolist()
        astray = [
            token
            for token, letters in zip(likely, self._continuations(tokens[-1], likely), strict=True)
            if letters and not self._begins_a_word(begun.group() + letters)
        ]
        if not astray:
            return logits_V
        adjusted_V = logits_V.clone()
        adjusted_V[astray] -= self._strength
        return adjusted_V

    def _begins_a_word(self, letters: str) -> bool:
        at = bisect_left(self._words, letters)
        return at < len(self._words) and self._words[at].startswith(letters)

    def _continuations(self, last: int, candidates: Sequence[int]) -> list[str]:
        """Return the letters by which each candidate goes on with the word at hand; none for who ends it."""
        # Beside the token before: alone, some tokenizers drop the blank that a token begins with.
        pairs = [[last], *([last, token] for token in candidates)]
        alone, *texts = self._tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)
        found = (_WORD.match(_alike(text.removeprefix(alone))) if text.startswith(alone) else None for text in texts)
        return [match.group() if match else "" for match in found]


def _alike(text: str) -> str:
    """Return a text as others are compared with: without case, each accent in one character with its letter."""
    return unicodedata.normalize("NFC", text.casefold())


def whole_words(text: str, span: tuple[int, int]) -> str:
    """Return the characters of ``span`` and of the words that it cuts, whose rests would be taken for words."""
    start, end = span
    while 0 < start < len(text) and text[start - 1].isalpha() and text[start].isalpha():
        start -= 1
    while 0 < end < len(text) and text[end - 1].isalpha() and text[end].isalpha():
        end += 1
    return text[start:end]
