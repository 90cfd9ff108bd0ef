"""What a retriever is: texts in, unit vectors out. Nothing here knows a model.

Shapes: n texts, E embedding size. All vectors are float32, and all but weighed queries L2-normalised, so that an inner
product is a cosine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # [n, E] or [E]
Rivals = NDArray[np.bool_]  # [N]
Tokenise = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True, slots=True)
class TooLong:
    """Text ``index`` has more tokens than the embedder takes at once; it will be embedded in parts."""

    index: int
    n_tokens: int
    max_tokens: int


Range = tuple[int, int]


class Parts(NamedTuple):
    """The parts of one chunk (see ``parts.py``).

    Attributes:
        ranges: tokens [start, end) of each. texts: their texts. n_tokens: of the chunk.
        around: the text of each with some more on both sides, as far as the chunk goes.
        text: of the chunk. places: characters [start, end) of it that each of ``around`` is.
    """

    ranges: tuple[Range, ...]
    texts: tuple[str, ...]
    n_tokens: int
    around: tuple[str, ...]
    text: str = ""
    places: tuple[Range, ...] = ()


class Place(NamedTuple):
    """Characters ``span`` of text ``number`` that may be the answer, and how likely they are it, 0 to 1."""

    number: int
    span: Range
    likely: float


class Places(NamedTuple):
    """Where in some texts the answer to a question may stand.

    Attributes:
        likeliest: first; none where such a question is not answered by words of a text.
        nowhere: how likely it is that none of the texts answers, 0 to 1.
    """

    likeliest: tuple[Place, ...]
    nowhere: float

    def holders(self) -> set[int]:
        """Return the text in which, more likely than not, the answer stands; none where there is none."""
        shares: dict[int, float] = {}
        for number, _, likely in self.likeliest:
            shares[number] = shares.get(number, 0.0) + likely
        return {number for number, share in shares.items() if share > 0.5}


class Step(NamedTuple):
    """What a question needs to have found first.

    Attributes:
        span: characters of the question that stand for it. question: that asks for it.
    """

    span: Range
    question: str


@runtime_checkable
class Retriever(Protocol):
    """Embeds texts for retrieval.

    Attributes:
        name: the registry name.
        dim: embedding size E.
        max_tokens: tokens (special ones included) that are embedded at once; None has no limit.
        fingerprint: names model and weights; banks of two fingerprints must not be mixed.
        notice: what a person should know about this choice ("" when it is what was asked for).
    """

    name: str
    dim: int
    max_tokens: int | None
    fingerprint: str
    notice: str

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, E]. A text over ``max_tokens`` is embedded in parts: nothing is cut off."""
        ...

    def score_parts(self, query_E: Vectors, chunks: Sequence[Parts], question: str = "") -> list[Vectors]:
        """Return for each chunk how well each of its parts matches, [parts], on the scale of the chunk's own score.

        Somebody waits for it. What a chunk's parts score does not depend on the other chunks.

        Args:
            query_E: what the chunks were found with (see :meth:`weigh_query`). chunks: the parts of each.
            question: its words, for a retriever that reads them beside a part; "" compares vectors alone.
        """
        ...

    def doubt(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Vectors:
        """Return how surely each of these chunks does not answer the question, [N] float32 logits, at least 0.

        Zeros where nobody can say. Where even the least is above 0, none of them is likely to.

        Args:
            query_E, chunks, question: as of :meth:`score_parts`.
        """
        ...

    def log_odds(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> float | None:
        """Return the log-odds that one of these chunks answers the question; None where nobody can say.

        Args:
            query_E, chunks, question: as of :meth:`score_parts`.
        """
        ...

    def rivals(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Rivals:
        """Return which of these chunks surely answer the question, each of them telling of the same thing, [N].

        None of them where nobody can say, or not even one is sure to.

        Args:
            query_E, chunks, question: as of :meth:`score_parts`.
        """
        ...

    def point(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Places | None:
        """Return which words of these chunks may be the answer, numbers counting chunks; None where nobody can say.

        Args:
            query_E, chunks, question: as of :meth:`score_parts`.
        """
        ...

    def first_step(self, question: str) -> Step | None:
        """Return what must be found before the question can be answered; None where nothing must, or nobody can say."""
        ...

    def embed_query(self, text: str) -> Vectors:
        """Return one unit vector [E]."""
        ...

    def weigh_query(self, query_E: Vectors, mean_squares_E: Vectors, held: int) -> Vectors:
        """Return the vector [..., E] that a question searches with, given what may be found.

        Args:
            query_E: of :meth:`embed_query`, any leading axes. mean_squares_E: of all vectors that may be found.
            held: how many they are.
        """
        ...

    def low_score(self, chunk_tokens: int, reranked: bool = False) -> float:
        """Return the best score of chunks of this length under which a text hardly holds the answer.

        Args:
            reranked: whether the scores are those of a second look (see ``parts.py``).
        """
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Return the tokens of each text, special ones included; None for a retriever without tokens."""
        ...

    def check(self, texts: Sequence[str]) -> list[TooLong]:
        """Return the texts that are too long to be embedded at once."""
        ...


class VectorsAlone(ABC):
    """What a retriever does of :class:`Retriever` where vectors are all there is.

    They tell which chunk is nearest, not whether it answers, nor what a question needs to have found first.
    """

    @abstractmethod
    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, E]."""

    def score_parts(self, query_E: Vectors, chunks: Sequence[Parts], question: str = "") -> list[Vectors]:
        """Return the score of each chunk's parts, [parts] each, as of whole chunks."""
        return score_embedded(self.embed_documents, query_E, chunks)

    def doubt(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Vectors:
        """Return zeros, [N]."""
        return no_doubt(chunks)

    def log_odds(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> float | None:
        """Return None."""
        return None

    def rivals(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Rivals:
        """Return none of them, [N]."""
        return no_rivals(chunks)

    def point(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Places | None:
        """Return None."""
        return None

    def first_step(self, question: str) -> Step | None:
        """Return None."""
        return None

    def weigh_query(self, query_E: Vectors, mean_squares_E: Vectors, held: int) -> Vectors:
        """Return the query as it is."""
        return query_E


@dataclass(frozen=True, slots=True)
class Part:
    """A text, or a piece of one that was too long: what is embedded at once."""

    index: int
    text: str
    ids: list[int]


def split_to_fit(texts: Sequence[str], tokenise: Tokenise, max_tokens: int | None) -> list[Part]:
    """Return every text as one part, or halved at blanks until each part fits; parts stay in order."""
    parts: list[Part] = []
    for index, ids in enumerate(tokenise(texts) if texts else []):
        stack = [Part(index, texts[index], ids)]
        while stack:
            part = stack.pop()
            # A single character cannot be halved; no tokenizer makes more than a handful of tokens of it.
            if max_tokens is None or len(part.ids) <= max_tokens or len(part.text) < 2:
                parts.append(part)
                continue
            halves = _halves(part.text)
            pieces = [Part(index, half, new) for half, new in zip(halves, tokenise(halves), strict=True)]
            stack += reversed(pieces)
    return parts


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    blank = text.rfind(" ", middle // 2, middle)
    cut = blank if blank > 0 else middle
    return [text[:cut], text[cut:]]


def join_parts(parts: Sequence[Part], vectors_PE: Vectors, texts: int) -> Vectors:
    """Return [texts, E]: each text's parts averaged by their tokens and normalised again.

    One part is returned unchanged. The mean keeps every part's say; the alternative, cutting, would leave
    text that can never be found.
    """
    sums = np.zeros((texts, vectors_PE.shape[1]), dtype=np.float32)
    for part, vector in zip(parts, vectors_PE, strict=True):
        sums[part.index] += len(part.ids) * vector
    return normalise(sums)


def score_embedded(
    embed: Callable[[Sequence[str]], Vectors], query_E: Vectors, chunks: Sequence[Parts]
) -> list[Vectors]:
    """Return what :meth:`Retriever.score_parts` does where a part is scored as a chunk is: all embedded together."""
    if not chunks:
        return []
    vectors_PE = embed([text for parts in chunks for text in parts.texts])
    scores_P = np.asarray(vectors_PE @ query_E, dtype=np.float32)
    return np.split(scores_P, np.cumsum([len(parts.texts) for parts in chunks])[:-1])


def no_doubt(chunks: Sequence[Parts]) -> Vectors:
    """Return what :meth:`Retriever.doubt` says where vectors are all there is."""
    return np.zeros(len(chunks), dtype=np.float32)


def no_rivals(chunks: Sequence[Parts]) -> Rivals:
    """Return what :meth:`Retriever.rivals` says where vectors are all there is."""
    return np.zeros(len(chunks), dtype=np.bool_)


def normalise(vectors: Vectors) -> Vectors:
    """Return vectors of length 1 along the last axis; zero vectors stay zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def too_long(counts: Sequence[int] | None, max_tokens: int | None) -> list[TooLong]:
    """Return the counts over ``max_tokens`` with their positions."""
    if counts is None or max_tokens is None:
        return []
    return [TooLong(index, count, max_tokens) for index, count in enumerate(counts) if count > max_tokens]
