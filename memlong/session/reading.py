"""Reading: windows to K-V and embeddings, chunk by chunk into the bank, the least triggered out of it.

Shapes: S stored layers, B windows of one batch, G key/value heads, T tokens, D head size, E embedding size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch

from memlong.bank.ahead import SearchAhead
from memlong.bank.ledger import ChunkPlace
from memlong.bank.results import Hit
from memlong.chunking import Chunk
from memlong.model.wrapper import MemoryModel, StoredKV
from memlong.session.results import DocumentState, ReadProgress, ReadReport
from memlong.trace.events import ChunkWritten, Deleted, Retrieved

if TYPE_CHECKING:
    from memlong.session.session import Session


@dataclass
class Reading:
    """A document on its way into the bank; it can be left and taken up again at any batch.

    Attributes:
        document: its state, updated as reading goes on. chunks: all of it. evicted: chunks that left so far.
        too_long: chunks that the embedder took in parts.
    """

    document: DocumentState
    chunks: Sequence[Chunk]
    evicted: int = 0
    too_long: int = 0

    def __post_init__(self) -> None:
        # Counted once: to add them up again after every batch would take time that grows with the document.
        self._tokens_until = [0, *accumulate(chunk.n_tokens for chunk in self.chunks)]

    def steps(self, session: Session, step_seconds: float | None = None) -> Iterator[ReadProgress]:
        """Read from where it was left, one batch of windows a step; fewer windows where one would take longer.

        Ends early when the document is removed between two steps.
        """
        document, config = self.document, session.config
        per_window = config.window_tokens // config.chunk_tokens
        windows = most = max(1, config.read_batch_tokens // config.window_tokens)
        if step_seconds is not None and session.speed is not None:
            windows = min(most, max(1, int(session.speed * step_seconds / config.window_tokens)))
        here, started_tokens = 0.0, self._tokens_done()
        if document.status != "removed":
            document.status = "reading"
        while document.chunks_read < len(self.chunks) and document.status != "removed":
            started = time.perf_counter()
            at, before = document.chunks_read, self._tokens_done()
            left = self._batch(session, self.chunks[at : at + windows * per_window], per_window)
            elapsed = time.perf_counter() - started
            if step_seconds is not None:
                speed = (self._tokens_done() - before) / max(elapsed, 1e-9)
                windows = min(most, max(1, int(speed * step_seconds / config.window_tokens)))
            here += elapsed
            document.seconds += elapsed
            if document.chunks_read == len(self.chunks):
                document.status = "done"
            yield self._progress(here, started_tokens, left)

    def report(self, session: Session) -> ReadReport:
        """Return what came of it, as of now."""
        document = self.document
        return ReadReport(
            document.doc_id, document.title, document.n_tokens, document.chunks_read, session.kept(document.doc_id),
            self.evicted, document.seconds, document.status, self.too_long,
        )  # fmt: skip

    def _batch(self, session: Session, chunks: Sequence[Chunk], per_window: int) -> int:
        """Read some windows and store their chunks, in document order; return how many chunks left."""
        windows = [chunks[start : start + per_window] for start in range(0, len(chunks), per_window)]
        texts = [self.document.text[slice(*chunk.span)] for chunk in chunks]
        self.too_long += len(session.retriever.check(texts))
        embeddings = session.timed("embed", session.retriever.embed_documents, texts)
        kv = session.timed("prefill", read_windows, session.model, windows)
        ahead = session.timed("search", SearchAhead, session.bank, embeddings, session.config.top_k)
        left, at = 0, 0
        for row, window in enumerate(windows):
            mine = embeddings[at : at + len(window)]
            # A chunk of the window being read is local context, not yet memory: search first, store afterwards.
            for query, chunk in enumerate(window, start=at):
                self._retrieve(session, chunk, session.timed("search", ahead.search, query))
            at += len(window)
            start = 0
            try:
                for chunk, embedding in zip(window, mine, strict=True):
                    piece = kv.piece(row, start, start + chunk.n_tokens)
                    start += chunk.n_tokens
                    if not session.bank.spare_slots:  # a window of very many chunks
                        left += len(session.evict())
                    store_chunk(session, self.document, chunk, embedding, piece, window=chunk.index // per_window)
                self.document.chunks_read += len(window)
            except BaseException:
                self._take_back(session, window[0].index)
                raise
            left += len(session.evict())
        self.evicted += left
        return left

    def _take_back(self, session: Session, first: int) -> None:
        """Drop the chunks of a window that was broken off: who goes on reads the whole window again."""
        events = session.recorder.filter(ChunkWritten, doc_id=self.document.doc_id)
        written = {event.chunk_id for event in events if isinstance(event, ChunkWritten)}
        for record in session.bank.records():
            if record.doc_id == self.document.doc_id and record.index_in_doc >= first:
                session.bank.delete(record.chunk_id)
                if record.chunk_id in written:  # not the one that it was broken off at
                    session.recorder.append(Deleted(chunk_id=record.chunk_id))
        for chunk_id, gone in [*session.gone.items()]:
            if gone.doc_id == self.document.doc_id and gone.index_in_doc >= first:
                del session.gone[chunk_id]

    def _retrieve(self, session: Session, chunk: Chunk, hits: Sequence[Hit]) -> None:
        if hits:
            session.recorder.append(
                Retrieved(
                    query="chunk",
                    query_id=chunk.index,
                    doc_id=self.document.doc_id,
                    hits=session.trigger(hits),
                )
            )

    def _tokens_done(self) -> int:
        return self._tokens_until[self.document.chunks_read]

    def _progress(self, seconds: float, started_tokens: int, left: int) -> ReadProgress:
        document, done = self.document, self._tokens_done()
        speed = (done - started_tokens) / seconds if seconds else 0.0
        return ReadProgress(
            document.doc_id,
            document.title,
            document.chunks_read,
            document.chunks_total,
            done,
            document.n_tokens,
            document.seconds,
            speed,
            (document.n_tokens - done) / speed if speed else 0.0,
            left,
        )


def read_windows(model: MemoryModel, windows: Sequence[Sequence[Chunk]]) -> StoredKV:
    """Return the K-V of windows (lists of consecutive chunks), one row each, by the original weights."""
    lengths = [sum(chunk.n_tokens for chunk in window) for window in windows]
    ids = torch.zeros(len(windows), max(lengths), dtype=torch.long)
    for row, window in enumerate(windows):
        tokens = [token for chunk in window for token in chunk.token_ids]
        ids[row, : len(tokens)] = torch.tensor(tokens)
    # No token looks at those behind it, so padding on the right needs no mask, which would take a slower attention.
    return model.read(ids.to(model.device))


def store_chunk(
    session: Session,
    document: DocumentState,
    chunk: Chunk,
    embedding: np.ndarray,
    kv: tuple[torch.Tensor, torch.Tensor],
    window: int,
) -> int:
    """Write one chunk into the bank and the trace, and return its id."""
    record = session.bank.write(
        ChunkPlace(document.doc_id, chunk.index, chunk.span, chunk.n_tokens),
        embedding,
        *kv,
        step=session.recorder.step,
    )
    session.recorder.append(
        ChunkWritten(
            chunk_id=record.chunk_id,
            doc_id=document.doc_id,
            index_in_doc=chunk.index,
            span=chunk.span,
            n_tokens=chunk.n_tokens,
            window=window,
        )
    )
    return record.chunk_id
