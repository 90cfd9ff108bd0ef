"""Embeddings without weights: hashed words and character trigrams. Exact, deterministic, the last resort.

Feature hashing with signs, Weinberger et al. 2009 (arXiv 0902.2079); sublinear term frequency 1 + ln(tf). It
finds chunks that share words or word stems with the question, and nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import log

import numpy as np

from memlong.errors import RetrieverError
from memlong.retriever.base import TooLong, Vectors, VectorsAlone, normalise
from memlong.retriever.recent import digest

_WORD = re.compile(r"\w+|[^\w\s]")
_TRIGRAM_WEIGHT = 0.3  # a stem in common counts, a word in common counts more
# Words that nearly every English text has; without them two texts are alike for what they are about.
_COMMON = frozenset(
    (
        "a an and are as at be but by did do does for from had has have he her his how i in is it its "
        "my no not of on or our she so that the their them then there they this to was we were what "
        "when where which who whom whose why will with would you your"
    ).split()
)
_COMMON_WEIGHT = 0.1
_MOST_KEPT = 200_000  # words; some 150 bytes each


class HashingRetriever(VectorsAlone):
    """Bag of hashed words and character trigrams.

    Args:
        dim: embedding size; more means fewer collisions.

    Raises:
        RetrieverError: for a size under 16.
    """

    name = "hashing"
    max_tokens: int | None = None

    def __init__(self, dim: int = 1024) -> None:
        if dim < 16:
            raise RetrieverError(f"Embeddings of size {dim}", "16 or more", "Choose 1024, say")
        self.dim = dim
        self.fingerprint = f"hashing-2:{dim}"
        self.notice = ""
        self._kept: dict[str, bytes] = {}

    def low_score(self, chunk_tokens: int, reranked: bool = False) -> float:
        """Return the score that ``Retriever.low_score`` describes."""
        return 0.05  # below it hardly a word is shared; not measured

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, E]; texts without any sign share one vector of their own."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            words = Counter(_WORD.findall(text.lower())) or Counter({"": 1})
            features = [self._places(word) for word in words]
            lengths = np.array([len(found) for found in features]) // 4
            scales = np.array([1.0 + log(count) for count in words.values()])
            weights = np.repeat(scales * _TRIGRAM_WEIGHT, lengths)
            weights[np.cumsum(lengths) - lengths] = scales * [
                _COMMON_WEIGHT if _common(word) else 1.0 for word in words
            ]
            signed = np.frombuffer(b"".join(features), dtype=np.int32)
            # One addition after the other, in float32: the same sums in every process.
            np.add.at(row, abs(signed) - 1, np.copysign(weights, signed).astype(np.float32))
            if not row.any():  # signs that cancelled out
                row[0] = 1.0
        return normalise(vectors)

    def embed_query(self, text: str) -> Vectors:
        """Return one unit vector [E]."""
        return np.asarray(self.embed_documents([text])[0])

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Return None: words are counted, not tokenised."""
        return None

    def check(self, texts: Sequence[str]) -> list[TooLong]:
        """Return []: any length is taken."""
        return []

    def _places(self, word: str) -> bytes:
        """Return where a word and then its trigrams go: int32, counted from 1 so that each carries its sign.

        Kept, because a book repeats its words, and as bytes, because it has many.
        """
        found = self._kept.get(word)
        if found is None:
            places = [_place(f"w{word}", self.dim)]
            if len(word) > 3 and word not in _COMMON:
                framed = f"<{word}>"
                places += [_place(f"t{framed[start : start + 3]}", self.dim) for start in range(len(framed) - 2)]
            found = np.array(places, dtype=np.int32).tobytes()
            if len(self._kept) < _MOST_KEPT:
                self._kept[word] = found
        return found


def _common(word: str) -> bool:
    return word in _COMMON or not word.isalnum()


def _place(feature: str, dim: int) -> int:
    number = int.from_bytes(digest(feature, 8), "little")
    place = number % dim + 1
    return place if number >> 63 else -place
