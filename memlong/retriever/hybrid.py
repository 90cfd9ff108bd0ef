"""The offline default: MiniLM beside the words themselves, so that names and quotations are found too.

A small embedder knows what a text is about and is blind to a name it never saw. Each vector therefore has two
parts, MiniLM's and one that says which words stand there, hashed into a fixed number of places; an inner product of two
texts is the weighed mean of two cosines.

A question's words are weighed by how rare they are in the text at hand: inverse document frequency as in BM25
(Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009; kept above zero), read off the second moments of
all chunks held. Then words count for more than MiniLM, since they no longer say what the whole book is about.

Hashing with signs: Weinberger et al. 2009 (arXiv 0902.2079). Shapes: n texts, E = 384 + W embedding size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memlong.errors import RetrieverError
from memlong.retriever import cross_encoder as reading
from memlong.retriever import decomposer as decomposing
from memlong.retriever import pointer as pointing
from memlong.retriever.base import (
    Parts,
    Place,
    Places,
    Range,
    Rivals,
    Step,
    TooLong,
    Vectors,
    no_doubt,
    no_rivals,
    normalise,
)
from memlong.retriever.decomposer import Decomposer
from memlong.retriever.minilm import MiniLMRetriever
from memlong.retriever.pointer import Pointer, widened
from memlong.retriever.recent import Recent, digest

_WORD = re.compile(r"\w+")
_SHARE = 0.8  # of words in a question's score, and of MiniLM between chunks; EXPERIMENTS.md has others
_STEM_WEIGHT = 0.5  # for "settled" and "settle"
_READ = 4  # parts of a chunk that the cross-encoder sees: those whose words match best, none overlapping
_EVIDENT = -1.0  # the least logit of what may be evidence; EXPERIMENTS.md says what other values would take for it
_BEHIND = 5.0  # logits behind the best chunk from which one is doubted; EXPERIMENTS.md has others
# Of parts that merely look like answers the last is no truer than the first; EXPERIMENTS.md has other numbers.
_SURELY = 4.0  # logit of what surely answers
_ALIKE = 0.7  # of the best match in words of what surely answers: the least of one that tells of the same thing
_POINTED = 4  # parts in which the pointer looks for the answer: those with the best logits
_READ_SHARE = 0.3  # of how likely it holds the evidence in a part's score; EXPERIMENTS.md has others
_LOOKED_AT = 2  # parts of a chunk that MiniLM sees where there is none: those whose words match best
_DENSE_SHARE = 0.3  # of MiniLM in the score of a part that it saw; EXPERIMENTS.md has others
_UNSEEN = 0.05  # what a part that it did not see scores less: about what it would have added
_SOFTNESS = 2.0  # of the cross-encoder's logits: how sure it is, less than what its training would have
_KEPT_SCORES = 16_384  # of questions and parts, a megabyte or two
_KEPT_PLACES = 64  # questions: one asks for them more than once
_KEPT_PARTS = 4096  # vectors of parts kept, 6 MB: the next question often looks at the same ones
_STEM = 5  # letters; the start of a longer word stands for its forms


class HybridRetriever:
    """MiniLM and hashed words: four to one between chunks, one to four for a question; parts are read beside one.

    Args:
        words: places for the hashed words; more means fewer collisions.
        cross_encoder: the folder of what reads a question together with parts of chunks; "bundled" is ours, which
            takes the original MiniLM and is left out with another, or, with a notice, where its file is not there (a
            package without the project's assets); None compares vectors alone, and takes no question apart.
        folder, device, dtype, data_dir: see :class:`~memlong.retriever.minilm.MiniLMRetriever`.

    Raises:
        RetrieverError: when MiniLM is not to be had, for fewer than 16 places, and for a file that does not fit it.
    """

    name = "hybrid"

    def __init__(
        self,
        folder: Any = None,
        device: str = "auto",
        dtype: Any = None,
        data_dir: Any = None,
        words: int = 4096,
        cross_encoder: str | Path | None = "bundled",
    ) -> None:
        if words < 16:
            raise RetrieverError(f"{words} places for words", "16 or more", "Choose 4096, say")
        self.dense = MiniLMRetriever(folder, device, dtype, data_dir=data_dir)
        self.words = words
        self.dim = self.dense.dim + words
        self.max_tokens = self.dense.max_tokens
        self.fingerprint = f"hybrid-3:{words}:{self.dense.fingerprint}"
        self.notice = ""
        self._features: dict[str, list[tuple[int, float]]] = {}
        self._parts: Recent[Vectors] = Recent(_KEPT_PARTS)
        self._logits: Recent[float] = Recent(_KEPT_SCORES)  # of a question and a part that were read together
        read_by = self._bundled(cross_encoder, reading.BUNDLED / reading.WEIGHTS, "a cross-encoder")
        self._cross_encoder = None if read_by is None else self.dense.cross_encoder(Path(read_by))
        self._decomposer: Decomposer | None = None
        if cross_encoder is not None:
            self.use_decomposer(self._bundled("bundled", decomposing.BUNDLED / decomposing.WEIGHTS, "a decomposer"))
        self._pointer: Pointer | None = None
        self._pointed: Recent[Places | None] = Recent(_KEPT_PLACES)  # of a question and the windows read with it
        if cross_encoder is not None:
            self.use_pointer(self._bundled("bundled", pointing.BUNDLED / pointing.WEIGHTS, "a pointer"))

    def use_decomposer(self, folder: str | Path | None) -> None:
        """Have questions taken apart by the weights of a folder; None takes none apart.

        Raises:
            RetrieverError: when the folder has no such weights.
        """
        self._decomposer = None if folder is None else self.dense.decomposer(Path(folder))

    def use_pointer(self, folder: str | Path | None) -> None:
        """Have answers pointed at by the weights of a folder; None points at none.

        Raises:
            RetrieverError: when the folder has no such weights.
        """
        self._pointer = None if folder is None else self.dense.pointer(Path(folder))
        self._pointed = Recent(_KEPT_PLACES)

    def _bundled(self, folder: str | Path | None, file: Path, what: str) -> str | Path | None:
        """Return the folder meant; of "bundled" that of ``file``, or None, with a notice, where it cannot be used."""
        if folder != "bundled":
            return folder
        if not self.dense.original:
            return None
        if not file.is_file():
            self.notice += f"{'; ' if self.notice else ''}hybrid without {what}, because {file} is not there"
            return None
        return file.parent

    @property
    def reads(self) -> bool:
        """Whether a cross-encoder reads parts of chunks beside a question."""
        return self._cross_encoder is not None

    def keep_scores(self, most: int) -> None:
        """Keep as many scores of questions and parts read together, some 200 bytes each; those kept so far go.

        Who asks the same questions over and over, as training does, wants more of them than a session.
        """
        self._logits = Recent(most)

    def low_score(self, chunk_tokens: int, reranked: bool = False) -> float:
        """Return the score that ``Retriever.low_score`` describes."""
        # Of 1,990 questions on texts of the training side 1.8 % score less in their own text and 95 % in another with
        # chunks of 64 tokens, 2.3 and 95 % with 256: a word weighs less in a longer chunk.
        whole = float(0.15 * (64 / chunk_tokens) ** 0.22)
        # After a second look at 256 tokens 2 % and 92 % (of 1,045): half of it is a part's score. So it is with
        # vectors alone; where a cross-encoder reads it was 1 % and 79 % of 72, for which vectors alone had 3 and 85.
        return 0.5 * whole + 0.1 if reranked else whole

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, E]; what is too long for MiniLM is the mean of its parts there, and whole here."""
        dense_nD, words_nW = self.dense.embed_documents(texts), self.embed_words(texts)
        return normalise(np.concatenate([_SHARE**0.5 * dense_nD, (1 - _SHARE) ** 0.5 * words_nW], axis=1))

    def score_parts(self, query_E: Vectors, chunks: Sequence[Parts], question: str = "") -> list[Vectors]:
        """Return the score of each chunk's parts, [parts] each; all by their words, the best few also read.

        The cross-encoder reads a question with them; without a question, or without a cross-encoder, MiniLM does. It
        would take most of the time to the first token if either saw all of them.
        """
        words = self._words(query_E, chunks)
        if not chunks:
            return []
        if not self.reads or not question.strip():
            return self._compared(query_E, chunks, words)
        scores = []
        for mine, (best, logits) in zip(words, self._read_parts(question, chunks, words), strict=True):
            seen = _likely(logits)
            each = np.full_like(mine, seen.min())  # what was not read is no likelier than the worst that was
            each[best] = seen
            scores.append((1 - _READ_SHARE) * mine + _READ_SHARE * each)
        return scores

    def doubt(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Vectors:
        """Return how far the best logit of all falls short of what evidence has, and a chunk's is too far behind it."""
        if not self.reads or not question.strip() or not chunks:
            return no_doubt(chunks)
        logits_N, _ = self._evidence(query_E, chunks, question)
        best = logits_N.max()
        return np.asarray(np.maximum(0, _EVIDENT - best) + np.maximum(0, best - _BEHIND - logits_N))

    def log_odds(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> float | None:
        """Return the best logit of all: it was trained against a null part of logit 0."""
        if not self.reads or not question.strip() or not chunks:
            return None
        return float(self._evidence(query_E, chunks, question)[0].max())

    def rivals(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Rivals:
        """Return which chunks surely answer, in nearly as many of the question's words as any that does.

        Who asks for a year does not want what was told of a later one: its number is a word like others.
        """
        if not self.reads or not question.strip() or not chunks:
            return no_rivals(chunks)
        logits_N, words_N = self._evidence(query_E, chunks, question)
        sure_N = logits_N >= _SURELY
        return np.asarray(sure_N & (words_N >= _ALIKE * words_N.max(initial=0, where=sure_N)))

    def point(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> Places | None:
        """Return where in the parts with the best logits, and what stands around them, the answer may be."""
        if self._pointer is None or not self.reads or not question.strip() or not chunks:
            return None
        windows = self._windows(query_E, chunks, question)
        texts = [chunks[chunk].text[start:end] for chunk, (start, end) in windows]
        pointer = self._pointer
        (found,) = self._pointed.of(["\x1f".join(texts)], lambda _: [pointer.places(question, texts)], question)
        if found is None:
            return None
        places: dict[tuple[int, Range], float] = {}  # in windows that overlap the same place is found twice
        for number, (start, end), likely in found.likeliest:
            chunk, (offset, _) = windows[number]
            span = offset + start, offset + end
            places[chunk, span] = places.get((chunk, span), 0.0) + likely
        best = sorted(places.items(), key=lambda item: -item[1])
        return Places(tuple(Place(*place, likely) for place, likely in best), found.nowhere)

    def first_step(self, question: str) -> Step | None:
        """Return what must be found before the question can be answered."""
        return None if self._decomposer is None else self._decomposer.first_step(question)

    def embed_query(self, text: str) -> Vectors:
        """Return one unit vector [E]."""
        return np.asarray(self.embed_documents([text])[0])

    def weigh_query(self, query_E: Vectors, mean_squares_E: Vectors, held: int) -> Vectors:
        """Return the query [..., E] whose inner product with a chunk is 0.2 and 0.8 of two cosines; see above."""
        size = self.dense.dim
        common_W = mean_squares_E[size:]
        if not common_W.any():
            return query_E
        # Some word is in every chunk: the largest moment is that of a share of one.
        share_W = common_W / common_W.max()
        half = 0.5 / held  # of a chunk, as in BM25: a single chunk's words weigh something too
        rarity_W = np.log1p((1 - share_W + half) / (share_W + half))
        words_W = normalise(query_E[..., size:] * rarity_W)
        dense_D = normalise(query_E[..., :size])
        dense_weight, words_weight = (1 - _SHARE) / _SHARE**0.5, _SHARE / (1 - _SHARE) ** 0.5
        return np.concatenate([dense_weight * dense_D, words_weight * words_W], axis=-1)

    def embed_words(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [n, W] of the words alone; a text without a word has zeros.

        A word counts once however often it stands there: a chunk is short, and what it repeats is seldom what is
        asked for. Of words that share a place the one that counts more stays, so that moments tell shares of chunks.
        """
        vectors = np.zeros((len(texts), self.words), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            kept = self._words_of(text)
            vector[list(kept)] = list(kept.values())
        return normalise(vectors)

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Return the tokens of each text as MiniLM counts them."""
        return self.dense.count_tokens(texts)

    def check(self, texts: Sequence[str]) -> list[TooLong]:
        """Return the texts over ``max_tokens``."""
        return self.dense.check(texts)

    def _words_of(self, text: str) -> dict[int, float]:
        """Return where a text's words go, with their weights."""
        kept: dict[int, float] = {}
        for word in set(_WORD.findall(text.lower())):
            for place, weight in self._places(word):
                kept[place] = max(kept.get(place, 0.0), weight, key=lambda each: (abs(each), each))
        return kept

    def _match(self, text: str, words_W: Vectors) -> float:
        """Return the cosine of a text's words and a unit vector of words."""
        kept = self._words_of(text)
        if not kept:
            return 0.0
        weights = np.fromiter(kept.values(), dtype=np.float32, count=len(kept))
        return float(weights @ words_W[list(kept)] / np.linalg.norm(weights))

    def _words(self, query_E: Vectors, chunks: Sequence[Parts]) -> list[Vectors]:
        """Return the cosine of each part's words and the query's, [parts] of each chunk."""
        words_W = normalise(query_E[self.dense.dim :])
        return [np.array([self._match(text, words_W) for text in parts.texts], dtype=np.float32) for parts in chunks]

    def _read_parts(
        self, question: str, chunks: Sequence[Parts], words: Sequence[Vectors]
    ) -> list[tuple[list[int], Vectors]]:
        """Return for each chunk which parts the cross-encoder read, and the logit of each."""
        looked = [_apart(parts, mine) for parts, mine in zip(chunks, words, strict=True)]
        around = [parts.around[i] for parts, best in zip(chunks, looked, strict=True) for i in best]
        ends = np.cumsum([len(best) for best in looked])[:-1]
        return list(zip(looked, np.split(self._read(question, around), ends), strict=True))

    def _evidence(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> tuple[Vectors, Vectors]:
        """Return the best logit of each chunk's parts, [N], and how well the words of that part match, [N]."""
        words = self._words(query_E, chunks)
        read = self._read_parts(question, chunks, words)
        logits_N = np.array([logits.max() for _, logits in read], dtype=np.float32)
        matches = [mine[best[logits.argmax()]] for mine, (best, logits) in zip(words, read, strict=True)]
        return logits_N, np.array(matches, dtype=np.float32)

    def _windows(self, query_E: Vectors, chunks: Sequence[Parts], question: str) -> list[tuple[int, Range]]:
        """Return chunks and characters of them: around the best parts, but none too far behind the best."""
        read = self._read_parts(question, chunks, self._words(query_E, chunks))
        parts = [
            (float(logit), chunk, part)
            for chunk, (best, logits) in enumerate(read)
            for part, logit in zip(best, logits, strict=True)
        ]
        parts.sort(key=lambda each: -each[0])
        windows: list[tuple[int, Range]] = []
        for logit, chunk, part in parts:
            place = chunks[chunk].places[part]
            inside = any(chunk == other and start <= place[0] and place[1] <= end for other, (start, end) in windows)
            if len(windows) < _POINTED and logit >= parts[0][0] - _BEHIND and not inside:
                windows.append((chunk, widened(chunks[chunk].text, *place)))
        return windows

    def _compared(self, query_E: Vectors, chunks: Sequence[Parts], words: Sequence[Vectors]) -> list[Vectors]:
        """Return the scores of parts by words, and of the best few of each chunk by MiniLM too."""
        looked = [np.argsort(-each, kind="stable")[:_LOOKED_AT] for each in words]
        ends = np.cumsum([len(best) for best in looked])[:-1]
        texts = [parts.texts[i] for parts, best in zip(chunks, looked, strict=True) for i in best]
        seen = np.split(self._embed_dense(texts) @ normalise(query_E[: self.dense.dim]), ends)
        scores = [_SHARE * each - _UNSEEN for each in words]
        for each, mine, best, its in zip(scores, words, looked, seen, strict=True):
            each[best] = (1 - _DENSE_SHARE) * mine[best] + _DENSE_SHARE * its
        return scores

    def _read(self, question: str, texts: Sequence[str]) -> Vectors:
        """Return the cross-encoder's logit of each text, [n], those of late from memory."""
        assert self._cross_encoder is not None
        work = partial(self._cross_encoder.logits, question)
        return np.array(self._logits.of(texts, work, question), dtype=np.float32)

    def _embed_dense(self, texts: Sequence[str]) -> Vectors:
        """Return MiniLM's vectors [n, D] of parts, those of late from memory."""
        if not texts:
            return np.zeros((0, self.dense.dim), dtype=np.float32)
        return np.stack(self._parts.of(texts, self.dense.embed_documents))

    def _places(self, word: str) -> list[tuple[int, float]]:
        """Return where a word and its stem go, with signed weights; kept, because a book repeats its words."""
        found = self._features.get(word)
        if found is None:
            found = [_place("w" + word, self.words, 1.0)]
            if len(word) > _STEM:
                found.append(_place("s" + word[:_STEM], self.words, _STEM_WEIGHT))
            if len(self._features) < 500_000:
                self._features[word] = found
        return found


def _apart(parts: Parts, words: Vectors) -> list[int]:
    """Return the parts whose words match best, of which no two overlap: side by side they would show the same twice."""
    chosen: list[int] = []
    for part in np.argsort(-words, kind="stable").tolist():
        start, end = parts.ranges[part]
        if all(end <= parts.ranges[other][0] or parts.ranges[other][1] <= start for other in chosen):
            chosen.append(part)
        if len(chosen) == _READ:
            break
    return chosen


def _likely(logits: Vectors) -> Vectors:
    """Return how likely each part holds the evidence."""
    # The logistic function by another one that takes logits of any size.
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 / _SOFTNESS * logits), dtype=np.float32)


def _place(feature: str, size: int, weight: float) -> tuple[int, float]:
    number = int.from_bytes(digest(feature, 8), "little")
    return number % size, weight if number >> 63 else -weight
