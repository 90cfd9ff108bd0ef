"""Embeddings of everything that a visitor's memory read and was asked, kept when chunks leave. No torch.

Without them every replay would have to embed a whole book again. They take 4 E bytes a chunk, less than a hundredth
of its K-V. Shapes: E embedding size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memlong.retriever.parts import cut_parts, second_look
from memlong.trace.events import ChunkWritten, Event

if TYPE_CHECKING:
    from memlong.evaluation.policies import SecondLook, Wanted
    from memlong.evaluation.recording import Recording
    from memlong.retriever.base import Parts
    from memlong.session.session import Session

Vector = NDArray[np.float32]  # [E]
Run = Callable[..., Any]


class Vectors:
    """What a session's chunks and questions were embedded to.

    Args:
        session: a new one; every chunk that it writes from now on is remembered.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chunks: dict[int, Vector] = {}
        self._questions: dict[str, Vector] = {}
        self._how = (0, 0)  # top_k and chunks looked at twice, of the two lists below
        self._by_chunks: list[NDArray[np.int64]] = []  # what each chunk as a query would have fetched
        self._by_questions: list[NDArray[np.int64]] = []
        self._looked: dict[tuple[int, int], float] = {}  # question's place, chunk id -> score after a second look
        self._lock = threading.Lock()  # several pictures of one page are drawn at a time
        session.recorder.subscribe(self._note)

    def _note(self, event: Event) -> None:
        if isinstance(event, ChunkWritten):
            self._chunks[event.chunk_id] = self._session.bank.embedding(event.chunk_id)

    def chunks(self, chunk_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the vectors [n, E] of chunks, also of those that left."""
        return np.stack([self._chunks[chunk_id] for chunk_id in chunk_ids])

    def questions(self, asked: Sequence[tuple[int, str]]) -> NDArray[np.float32]:
        """Return the vectors [Q, E] that questions would have searched with had nothing ever left.

        Args:
            asked: how many chunks were written before a question, and its text, which :meth:`embed` was given.
        """
        retriever, chunks = self._session.retriever, list(self._chunks.values())
        found, squares_E, done = np.zeros((len(asked), retriever.dim), np.float32), np.zeros(retriever.dim), 0
        for place in sorted(range(len(asked)), key=lambda each: asked[each][0]):
            written, text = min(asked[place][0], len(chunks)), asked[place][1]
            for vector in chunks[done:written]:
                squares_E += np.square(vector, dtype=np.float64)
            done = written
            mean_squares_E = (squares_E / max(1, written)).astype(np.float32)
            found[place] = retriever.weigh_query(self._questions[text], mean_squares_E, written)
        return found

    def embed(self, texts: Sequence[str]) -> Iterator[int]:
        """Embed the questions that are not known yet; yields how many are left after each."""
        new = [text for text in dict.fromkeys(texts) if text not in self._questions]
        for left, text in zip(range(len(new) - 1, -1, -1), new, strict=True):
            self._questions[text] = np.asarray(self._session.retriever.embed_query(text))
            yield left

    def second_look(self, recording: Recording, run: Run) -> SecondLook | None:
        """Return how this session's questions look twice at what they find; None where they do not.

        Args:
            recording: its questions must have been embedded. run: runs a function in the model's turn.
        """
        from memlong.evaluation.policies import SecondLook

        candidates = self._session.config.rerank_candidates
        if not candidates:
            return None
        questions_QE = cache(lambda: self.questions(recording.questions))

        def scores(question: int, places: NDArray[np.int64], found: Vector) -> Vector:
            ids = [recording.chunks[place].chunk_id for place in places]
            new = [at for at, chunk_id in enumerate(ids) if (question, chunk_id) not in self._looked]
            if new:
                chunks = [recording.chunks[places[at]] for at in new]
                looked = run(self._look, questions_QE()[question], recording.questions[question][1], chunks, found[new])
                self._looked |= {(question, ids[at]): score for at, score in zip(new, looked, strict=True)}
            return np.array([self._looked[question, chunk_id] for chunk_id in ids], dtype=np.float32)

        return SecondLook(candidates, scores)

    def _look(
        self, query_E: Vector, question: str, chunks: Sequence[ChunkWritten], found: Sequence[float]
    ) -> list[float]:
        """Return the scores of chunks after a second look; those of a document that was removed keep theirs."""
        session, scores = self._session, list(found)
        # A chunk that holds the rest of one character has no text and is looked at all the same, as when asking.
        here = [at for at, chunk in enumerate(chunks) if session.documents[chunk.doc_id].status != "removed"]
        parts = self._parts([chunks[at] for at in here])
        looked = second_look(session.retriever, query_E, question, parts, [found[at] for at in here])
        for at, score in zip(here, looked, strict=True):
            scores[at] = score
        return scores

    def likely(self, asked: tuple[int, str], chunks: Sequence[ChunkWritten], scores: Sequence[float]) -> list[bool]:
        """Return which of these chunks may well answer a question, as an answer with such evidence would be judged.

        Args:
            asked: of :meth:`questions`. chunks: of documents that are here. scores: after a second look where there is
                one.
        """
        session, config = self._session, self._session.config
        least = config.low_score
        if least is None:
            least = session.retriever.low_score(config.chunk_tokens, config.rerank_candidates > 0)
        doubt_N = np.zeros(len(chunks))
        if config.rerank_candidates or config.relevance_strength:  # else nobody looks at parts of chunks
            (query_E,) = self.questions([asked])
            parts = self._parts(chunks)
            doubt_N = np.array(session.retriever.doubt(query_E, parts, asked[1]))  # a copy: it is the retriever's own
            if config.pointing_strength and (places := session.retriever.point(query_E, parts, asked[1])) is not None:
                doubt_N[list(places.holders())] = 0
        return [bool(score >= least and doubt <= 0) for score, doubt in zip(scores, doubt_N, strict=True)]

    def _parts(self, chunks: Sequence[ChunkWritten]) -> list[Parts]:
        session = self._session
        texts = [session.documents[chunk.doc_id].text[slice(*chunk.span)] for chunk in chunks]
        return [cut_parts(session.tokenizer, text, chunk.n_tokens) for chunk, text in zip(chunks, texts, strict=True)]

    def missing(self, recording: Recording) -> int:
        """Return how many queries :meth:`wanted` has to work out; a question counts for many where a model is run.

        That is one that is not embedded, or that has not looked twice yet at what it finds.
        """
        candidates = self._session.config.rerank_candidates
        known = [len(self._by_chunks), len(self._by_questions)]
        if self._how != (recording.top_k, candidates):
            known = [0, 0]
        chunks, asked = max(0, len(recording.chunks) - known[0]), recording.questions[known[1] :]
        slow = [text for _, text in asked if candidates or text not in self._questions]
        return chunks + len(asked) + 1000 * len(slow)

    def wanted(self, recording: Recording, second: SecondLook | None = None) -> Wanted:
        """Return what every query would have fetched had nothing ever left; only new queries are worked out.

        Args:
            recording: all of its questions must have been embedded. second: of :meth:`second_look`.
        """
        from memlong.evaluation.policies import wanted_by

        chunks_nE = self.chunks([chunk.chunk_id for chunk in recording.chunks])
        with self._lock:
            how = (recording.top_k, second.candidates if second else 0)
            if self._how != how:
                self._how, self._by_chunks, self._by_questions = how, [], []
            known = len(self._by_chunks)
            ends = recording.ends[known : len(chunks_nE)]
            self._by_chunks += wanted_by(chunks_nE[known:], ends, chunks_nE, recording.top_k)
            first = len(self._by_questions)
            new = recording.questions[first:]
            asked = (self.questions(new), [at for at, _ in new], chunks_nE, recording.top_k)
            self._by_questions += wanted_by(*asked, (first, second))
            # Somebody may have asked with a later recording before.
            return [*self._by_chunks[: len(chunks_nE)], *self._by_questions[: len(recording.questions)]]
