"""Embeddings without weights: hashed words and character trigrams. Exact, deterministic, the last resort.

Feature hashing with signs, Weinberger et al. 2009 (arXiv 0902.2079); sublinear term frequency 1 + ln(tf). It
finds chunks that share words or word stems with the question, and nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from math import log

import numpy as np

from memlong.errors import RetrieverError
from memlong.retriever.base import TooLong, Vectors, normalise

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

Feature = tuple[int, float]  # dimension, signed weight


class HashingRetriever:
    """Bag of hashed words and character trigrams.

    Args:
        dim: embedding size; more means fewer collisions.

    Raises:
        RetrieverError: for a size under 16.
    """

    name = "hashing"
    max_tokens: int | None = None
    low_score = 0.05  # below it hardly a word is shared; not measured

    def __init__(self, dim: int = 1024) -> None:
        if dim < 16:
            raise RetrieverError(f"Embeddings of size {dim}", "16 or more", "Choose 1024, say")
        self.dim = dim
        self.fingerprint = f"hashing-2:{dim}"
        self.notice = ""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, E]; texts without any sign share one vector of their own."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            words = Counter(_WORD.findall(text.lower())) or Counter({"": 1})
            for word, count in words.items():
                scale = 1.0 + log(count)
                for place, weight in _features(word, self.dim):
                    row[place] += scale * weight
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


@lru_cache(maxsize=200_000)
def _features(word: str, dim: int) -> tuple[Feature, ...]:
    """Return where a word and its trigrams go; cached, because a book repeats its words."""
    features = [_place(f"w{word}", dim, _COMMON_WEIGHT if word in _COMMON or not word.isalnum() else 1.0)]
    if len(word) > 3 and word not in _COMMON:
        framed = f"<{word}>"
        trigrams = [framed[start : start + 3] for start in range(len(framed) - 2)]
        features += [_place(f"t{trigram}", dim, _TRIGRAM_WEIGHT) for trigram in trigrams]
    return tuple(features)


def _place(feature: str, dim: int, weight: float) -> Feature:
    # Not Python's hash(): that one is salted anew in every process.
    digest = int.from_bytes(blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "little")
    return digest % dim, weight if digest >> 63 else -weight
