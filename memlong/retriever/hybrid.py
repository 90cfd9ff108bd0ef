"""The offline default: MiniLM beside the words themselves, so that names are found too.

A small embedder knows what a text is about and is blind to a name it never saw. Each vector therefore has two
halves, MiniLM's and one of hashed words, each of length sqrt(1/2): an inner product is the mean of two cosines.
Words are weighed by how rare they are. BERT's vocabulary is ordered by frequency, and by Zipf's law the frequency
of a word falls as 1 / rank, so that -log(frequency) grows as log(rank): the place of a word in the vocabulary tells
its weight without any count (inverse document frequency, Sparck Jones 1972), and a word that is not in it is rare.

A question's words are weighed once more by what is common in the text at hand, as inverse document frequencies are:
each number is divided by its second moment over all chunks held. Then words count for more than MiniLM, since they
no longer say what the whole book is about.

Hashing with signs: Weinberger et al. 2009 (arXiv 0902.2079). Shapes: n texts, E = 384 + W embedding size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from math import log
from typing import Any

import numpy as np

from memlong.errors import RetrieverError
from memlong.retriever.base import TooLong, Vectors, normalise
from memlong.retriever.minilm import MiniLMRetriever

_WORD = re.compile(r"\w+")
_FIRST_WORD = 1995  # in BERT's vocabulary, what comes before are reserved places and single characters
_UNKNOWN = 1.3  # a word in several pieces is rarer than the last whole one
_LEAST = 0.1
_SHARE = 0.7  # of words in a question's score; EXPERIMENTS.md has others
_STEM_WEIGHT = 0.5  # for "settled" and "settle"
_STEM = 5  # letters; the start of a longer word stands for its forms


class HybridRetriever:
    """MiniLM and hashed words: half and half between chunks, three to seven for a question.

    Args:
        words: numbers for the hashed words; more means fewer collisions.
        options: see :class:`~memlong.retriever.minilm.MiniLMRetriever`.

    Raises:
        RetrieverError: when MiniLM is not to be had, or for fewer than 16 numbers.
    """

    name = "hybrid"
    # Of 2,441 questions on 26 texts, 1.4 % score less in their own text and 97 % in another.
    low_score = 0.12

    def __init__(
        self,
        folder: Any = None,
        device: str = "auto",
        dtype: Any = None,
        batch_size: int | None = None,
        data_dir: Any = None,
        words: int = 2048,
    ) -> None:
        if words < 16:
            raise RetrieverError(f"{words} numbers for words", "16 or more", "Choose 2048, say")
        self.dense = MiniLMRetriever(folder, device, dtype, batch_size, data_dir)
        self.words = words
        self.dim = self.dense.dim + words
        self.max_tokens = self.dense.max_tokens
        self.fingerprint = f"hybrid-2:{words}:{self.dense.fingerprint}"
        self.notice = ""
        self._vocabulary = self.dense.vocabulary()
        self._features: dict[str, list[tuple[int, float]]] = {}

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, E]; what is too long for MiniLM is the mean of its parts there, and whole here."""
        halves = self.dense.embed_documents(texts), self.embed_words(texts)
        return normalise(np.concatenate(halves, axis=1))

    def embed_query(self, text: str) -> Vectors:
        """Return one unit vector [E]."""
        return np.asarray(self.embed_documents([text])[0])

    def weigh_query(self, query_E: Vectors, mean_squares_E: Vectors) -> Vectors:
        """Return the query [..., E] whose inner product with a chunk is 0.3 and 0.7 of two cosines; see above."""
        size = self.dense.dim
        common_W = mean_squares_E[size:]
        if not common_W.any():
            return query_E
        # A number that no chunk has would else be divided by nothing.
        words_W = normalise(query_E[..., size:] / (common_W + common_W.mean()))
        dense_D = normalise(query_E[..., :size])
        return np.concatenate([2**0.5 * (1 - _SHARE) * dense_D, 2**0.5 * _SHARE * words_W], axis=-1)

    def embed_words(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, W] of the words alone; a text without a word has zeros.

        A word counts once however often it stands there: a chunk is short, and what it repeats is seldom what is
        asked for.
        """
        vectors = np.zeros((len(texts), self.words), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in set(_WORD.findall(text.lower())):
                for place, weight in self._places(word):
                    vector[place] += weight
        return normalise(vectors)

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Return the tokens of each text as MiniLM counts them."""
        return self.dense.count_tokens(texts)

    def check(self, texts: Sequence[str]) -> list[TooLong]:
        """Return the texts over ``max_tokens``."""
        return self.dense.check(texts)

    def _places(self, word: str) -> list[tuple[int, float]]:
        """Return where a word and its stem go, with signed weights; kept, because a book repeats its words."""
        found = self._features.get(word)
        if found is None:
            rarity = self._rarity(word)
            found = [_place("w" + word, self.words, rarity)]
            if len(word) > _STEM:
                found.append(_place("s" + word[:_STEM], self.words, _STEM_WEIGHT * rarity))
            if len(self._features) < 500_000:
                self._features[word] = found
        return found

    def _rarity(self, word: str) -> float:
        """Return from 0.01 for "the" to 1 for the rarest word of the vocabulary; squared, as in tf-idf products."""
        place = self._vocabulary.get(word)
        if place is None:
            return _UNKNOWN**2
        return max(_LEAST, log(max(place - _FIRST_WORD, 1)) / log(max(len(self._vocabulary) - _FIRST_WORD, 3))) ** 2


def _place(feature: str, size: int, weight: float) -> tuple[int, float]:
    # Not Python's hash(): that one is salted anew in every process.
    digest = int.from_bytes(blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "little")
    return digest % size, weight if digest >> 63 else -weight
