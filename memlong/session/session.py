"""One reader's state: documents, bank, trace. It joins model, retriever and bank, which know nothing of each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memlong.bank.bank import Bank, Hit
from memlong.bank.ledger import ChunkRecord
from memlong.chunking import Chunk, PageSpan, chunk_text
from memlong.config import AskOptions, MemoryConfig
from memlong.errors import BankError, ConfigError, DocumentError
from memlong.model.wrapper import MemoryModel
from memlong.retriever.base import Parts
from memlong.session import saving
from memlong.session.answering import CONVERSATION, refuse
from memlong.session.banking import bring_back, make_bank, note_evictions
from memlong.session.layers import LayerNotes
from memlong.session.reading import Reading
from memlong.session.relevance import reranked
from memlong.session.results import (
    Answer,
    AnswerDelta,
    DocumentState,
    Evidence,
    ReadEstimate,
    ReadProgress,
    ReadReport,
)
from memlong.session.steps import StepwiseAnswering
from memlong.trace import events
from memlong.trace.recorder import Recorder


class Session:
    """Read documents, ask about them, and see what the memory did.

    Not for several threads at once; readers share a model by taking turns between steps.

    Args:
        model: a model with a memory (``memlong.load_model``).
        retriever: embeds chunks and questions (``memlong.make_retriever``).
        config: settings of this session's memory; None takes the model's. Layers and chunk size must be the model's.
        recorder: where events go; None makes one. bank: a filled one of the same shape; None makes an empty one.

    Raises:
        ConfigError: when ``config`` asks for other layers than the model has.
        BankError: when the bank does not fit into memory.
    """

    def __init__(
        self,
        model: MemoryModel,
        retriever: Any,
        config: MemoryConfig | None = None,
        recorder: Recorder | None = None,
        bank: Bank | None = None,
    ) -> None:
        self.config = config or model.config
        for name in ("preset", "stored_layers", "retrieval_layers", "chunk_tokens"):
            mine, its = getattr(self.config, name), getattr(model.config, name)
            if mine != its:
                raise ConfigError(
                    f"A session with {name}={mine!r} on a model with {its!r}",
                    "The session's layers and chunk size are the model's",
                    "Load the model with this configuration",
                )
        self.model = model if self.config == model.config else model.with_config(self.config)
        self.tokenizer, self.retriever = model.tokenizer, retriever
        self.recorder = recorder or Recorder()
        self.layers = LayerNotes(self.recorder)
        self.bank = make_bank(self.model, retriever.dim, self.config) if bank is None else bank  # an empty one is falsy
        self.documents: dict[int, DocumentState] = {}
        self.turns: list[tuple[str, str]] = []
        self.seconds: dict[str, float] = {}
        self.readings: dict[int, Reading] = {}
        self.parts: dict[int, Parts] = {}
        self.gone: dict[int, ChunkRecord] = {}
        self.asked = 0
        self.speed: float | None = None
        if not self.recorder.step:
            self._note_capacity()

    # Reading

    def read(
        self,
        text: str,
        title: str = "text",
        spans: Sequence[PageSpan] = (),
        progress: Callable[[ReadProgress], None] | None = None,
        cancel: Callable[[], bool] = lambda: False,
    ) -> ReadReport:
        """Read a document into memory.

        Args:
            text: the document. title: shown with its chunks. spans: its pages or chapters.
            progress: called after every batch of windows; reading ends when it removes the document.
            cancel: asked as often; what was read until then stays.

        Raises:
            DocumentError: for a text without any word. BankError: when everything held is pinned; :meth:`read_steps`
                goes on with what was read until then.
        """
        doc_id = self.open(text, title, spans)
        reading = self.readings[doc_id]
        try:
            for step in self.read_steps(doc_id):
                if progress:
                    progress(step)
                if doc_id in self.readings and cancel():
                    break
        finally:
            if doc_id in self.readings:
                self.stop_reading(doc_id)
        return reading.report(self)

    def open(
        self, text: str, title: str = "text", spans: Sequence[PageSpan] = (), chunks: Sequence[Chunk] | None = None
    ) -> int:
        """Cut a document into chunks (unless ``chunks`` are its), ready for :meth:`read_steps`, and return its id.

        Raises:
            DocumentError: for a text without any word.
        """
        if chunks is None:
            chunks = chunk_text(self.tokenizer, text, self.config.chunk_tokens, self.config.whole_sentences)
        if not chunks or not text.strip():
            raise DocumentError(f"{title!r} holds no text", "At least one word", "Choose another document")
        document = DocumentState(
            doc_id=len(self.documents),
            title=title,
            text=text,
            spans=tuple(spans),
            n_tokens=sum(chunk.n_tokens for chunk in chunks),
            chunks_total=len(chunks),
        )
        self.documents[document.doc_id] = document
        self.readings[document.doc_id] = Reading(document, chunks)
        self.recorder.append(
            events.DocumentOpened(
                doc_id=document.doc_id,
                title=title,
                n_tokens=document.n_tokens,
                n_chunks=len(chunks),
                n_characters=len(text),
            )
        )
        return document.doc_id

    def read_steps(self, doc_id: int, step_seconds: float | None = None) -> Iterator[ReadProgress]:
        """Read an opened document from where it was left, one batch of windows a step, of ``step_seconds`` or less."""
        reading = self._reading(doc_id)
        for progress in reading.steps(self, step_seconds):
            self.speed = progress.tokens_per_second or self.speed
            if reading.document.status == "done":
                self._closed(reading.document)
            yield progress

    def stop_reading(self, doc_id: int) -> None:
        """Mark a document as left in the middle; :meth:`read_steps` goes on with it."""
        document = self._reading(doc_id).document
        if document.status == "reading":
            document.status = "cancelled"
            self._closed(document)

    def estimate(self, text: str, chunks: Sequence[Chunk] | None = None) -> ReadEstimate:
        """Return what reading ``text`` (cut into ``chunks``) will take, before anything is read."""
        if chunks is None:
            chunks = chunk_text(self.tokenizer, text, self.config.chunk_tokens, self.config.whole_sentences)
        tokens = sum(chunk.n_tokens for chunk in chunks)
        return ReadEstimate(
            tokens,
            len(chunks),
            tokens / self.config.capacity_tokens,
            len(chunks) * self.config.chunk_tokens * self.bank.store.bytes_per_token,
            tokens / self.speed if self.speed else None,
        )

    def report(self, doc_id: int) -> ReadReport:
        """Return what came of reading a document, as of now."""
        return self._reading(doc_id).report(self)

    def kept(self, doc_id: int) -> int:
        """Return how many chunks of a document the bank holds now."""
        return sum(1 for record in self.bank.records() if record.doc_id == doc_id)

    # Answering

    def ask(self, question: str, options: AskOptions | None = None, **changes: Any) -> Answer:
        """Answer a question; ``changes`` go on top of ``options`` (see :class:`~memlong.config.AskOptions`)."""
        *_, answer = self.stream(question, (options or AskOptions()).replace(**changes))
        assert isinstance(answer, Answer)
        return answer

    def stream(
        self, question: str, options: AskOptions | None = None, cancel: Callable[[], bool] = lambda: False
    ) -> Iterator[AnswerDelta | Answer]:
        """Yield the growing answer; the last item is the finished :class:`Answer`.

        Args:
            cancel: asked once per token; the answer so far is kept.

        Raises:
            ConfigError: for an empty question. BankError: for documents or forced chunks that are not here.
        """
        options = options or AskOptions()
        refuse(self, question, options)
        yield from StepwiseAnswering(self, question.strip(), options, cancel).stream()

    # Chunks

    def pin(self, chunk_id: int) -> None:
        """Keep a chunk from being evicted. Raises BankError when it is not held."""
        self.bank.pin(chunk_id)
        self.recorder.append(events.Pinned(chunk_id=chunk_id))

    def unpin(self, chunk_id: int) -> None:
        """Let a chunk be evicted again. Raises BankError when it is not held."""
        self.bank.unpin(chunk_id)
        self.recorder.append(events.Unpinned(chunk_id=chunk_id))

    def delete_chunk(self, chunk_id: int) -> None:
        """Remove a chunk by hand. Raises BankError when it is not held."""
        self.gone[chunk_id] = self.bank.delete(chunk_id)
        self.recorder.append(events.Deleted(chunk_id=chunk_id))

    def restore(self, chunk_id: int, pin: bool = True) -> list[int]:
        """Bring back a chunk that was evicted or deleted: its window is read again. Returns who had to leave for it.

        Args:
            pin: keep it from being evicted at once (its count may be the lowest).

        Raises:
            BankError: when it never was here, is still here, or its document was removed.
        """
        bring_back(self, chunk_id)
        if pin:
            self.pin(chunk_id)
        return self.evict()

    def remove_document(self, doc_id: int) -> None:
        """Remove a document and its chunks. Raises BankError when there is none."""
        if doc_id not in self.present:
            raise BankError(f"Document {doc_id}", f"Known: {sorted(self.present)}", "Choose one of these")
        document = self.documents[doc_id]
        self.bank.delete_document(doc_id)
        document.status, document.text = "removed", ""
        self.readings.pop(doc_id, None)
        self._closed(document)

    def set_capacity(self, tokens: int) -> list[int]:
        """Change the bank's size; returns the ids of chunks that had to leave.

        Raises:
            BankError: when pinned chunks or the machine's memory do not allow it; then nothing changed.
        """
        config = self.config.replace(capacity_tokens=tokens)
        gone = self.bank.set_capacity(tokens, self.recorder.step)
        self._reconfigure(config)
        return note_evictions(self, gone)

    def set_policy(self, name: str) -> None:
        """Choose who leaves from now on. Raises BankError for an unknown name; then nothing changed."""
        config = self.config.replace(policy=name)
        self.bank.set_policy(name)
        self._reconfigure(config)

    # What reading and answering share

    @property
    def present(self) -> dict[int, DocumentState]:
        """The documents that were not removed; another thread may be opening one meanwhile."""
        return {doc_id: document for doc_id, document in list(self.documents.items()) if document.status != "removed"}

    @property
    def chunks_read(self) -> int:
        """Chunks read in this session, of the documents that were not removed."""
        return sum(document.chunks_read for document in self.present.values())

    def embed_query(self, text: str) -> np.ndarray:
        """Return the vector [E] that a text searches this bank with."""
        plain_E = self.timed("embed", self.retriever.embed_query, text)
        return np.asarray(self.retriever.weigh_query(plain_E, self.bank.mean_squares(), len(self.bank)))

    def search(
        self,
        embedding_E: np.ndarray,
        top_k: int,
        documents: set[int] | None = None,
        exclude: set[int] | None = None,
        question: str = "",
    ) -> list[Hit]:
        """Return the best chunks for an embedding, best first; a second look reads ``question`` beside them."""
        first = self.config.rerank_candidates
        hits = self.timed("search", self.bank.search, embedding_E, max(top_k, first), documents, exclude or ())
        if first:
            hits = self.timed("search", reranked, self, embedding_E, question, hits)
        return list(hits[:top_k])

    def trigger(self, hits: Sequence[Hit]) -> tuple[events.Hit, ...]:
        """Count these chunks as retrieved, and return them with their new counts, for the trace."""
        self.bank.trigger([hit.chunk_id for hit in hits], self.recorder.step)
        return tuple(
            events.Hit(hit.chunk_id, float(hit.score), rank, self.bank.get(hit.chunk_id).trigger_count)
            for rank, hit in enumerate(hits, start=1)
        )

    def evict(self) -> list[int]:
        """Let chunks leave until the bank fits its capacity; returns their ids."""
        return note_evictions(self, self.bank.evict(self.recorder.step))

    def in_document_order(self, chunk_ids: Iterable[int]) -> list[int]:
        """Return chunk ids by document and place in it."""
        get = self.bank.get
        return sorted(chunk_ids, key=lambda chunk_id: (get(chunk_id).doc_id, get(chunk_id).index_in_doc))

    def evidence_of(self, chunk_id: int) -> Evidence:
        """Return a held chunk with its text and place; rank, score and counts are left at 0."""
        record = self.bank.get(chunk_id)
        document = self.documents[record.doc_id]
        return Evidence(
            chunk_id,
            0,
            0.0,
            None,
            0,
            record.trigger_count,
            record.doc_id,
            document.title,
            document.place(record.span),
            record.span,
            document.text[slice(*record.span)],
        )

    def conversation(self) -> DocumentState:
        """Return the document that holds spilled local context; it is made at the first spill."""
        for document in self.documents.values():
            spilled = document.title == CONVERSATION and document.doc_id not in self.readings
            if spilled and document.status != "removed":
                return document
        document = DocumentState(len(self.documents), CONVERSATION, "", status="done")
        self.documents[document.doc_id] = document
        return document

    def reading_in_words(self) -> str:
        """Return how far documents that are still being read were read, or ""."""
        parts = [
            f"{document.title}: {document.chunks_read} of {document.chunks_total} chunks read"
            for document in self.documents.values()
            if document.status in ("reading", "cancelled")
        ]
        return "; ".join(parts)

    def timed(self, what: str, run: Callable[..., Any], *arguments: Any) -> Any:
        """Run and add the wall time to ``seconds[what]``."""
        started = time.perf_counter()
        result = run(*arguments)
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - started
        return result

    # Saving

    def save(self, folder: str | Path) -> None:
        """Save everything; a kill at any moment leaves the old or the new state. Raises PersistError."""
        saving.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, model: MemoryModel, retriever: Any) -> Session:
        """Load a saved session. Raises PersistError for damage, or a bank of another model or retriever."""
        return saving.load(cls, Path(folder), model, retriever)

    def _reading(self, doc_id: int) -> Reading:
        reading = self.readings.get(doc_id)
        if reading is None:
            raise BankError(f"Document {doc_id}", f"Known: {sorted(self.readings)}", "Choose one of these")
        return reading

    def _closed(self, document: DocumentState) -> None:
        self.recorder.append(
            events.DocumentClosed(
                doc_id=document.doc_id,
                status=document.status,
                chunks_read=document.chunks_read,
                seconds=document.seconds,
            )
        )

    def _reconfigure(self, config: MemoryConfig) -> None:
        self.config = config
        self.model = self.model.with_config(config)
        self._note_capacity()

    def _note_capacity(self) -> None:
        config = self.config
        self.recorder.append(events.CapacityChanged(capacity_tokens=config.capacity_tokens, policy=config.policy))
