"""What happened in a session, as far as eviction policies care: what was read, and what was asked when. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memlong.errors import ConfigError
from memlong.trace.events import ChunkWritten, Event, QuestionAsked
from memlong.trace.questions import Origins


@dataclass(frozen=True)
class Recording:
    """What happened in a session, as far as policies care.

    Attributes:
        chunks: the chunks in the order they were written.
        questions: (chunks written before it, its text), in order; each step of a question is one.
        origins: for each of them, which of what people asked it belongs to, counted from 0, and that one's words.
        chunk_tokens: tokens of a full chunk. top_k: chunks a query fetches.
        whole_sentences: whether chunks end with a sentence, and are mostly not full.
    """

    chunks: tuple[ChunkWritten, ...]
    questions: tuple[tuple[int, str], ...]
    origins: tuple[tuple[int, str], ...]
    chunk_tokens: int
    top_k: int
    whole_sentences: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of all chunks."""
        return sum(chunk.n_tokens for chunk in self.chunks)

    def asked(self, written: int = 0) -> int:
        """Return how much people asked since so many chunks had been written: a question in steps is one."""
        since = zip(self.questions, self.origins, strict=True)
        return len({number for (at, _), (number, _) in since if at >= written})

    @property
    def windows(self) -> list[tuple[int, int]]:
        """Places of the first chunk and behind the last one of each window: all of it is asked for, then written."""
        starts = [
            at
            for at, chunk in enumerate(self.chunks)
            if not at or (chunk.doc_id, chunk.window) != (self.chunks[at - 1].doc_id, self.chunks[at - 1].window)
        ]
        return list(zip(starts, [*starts[1:], len(self.chunks)], strict=True))

    @property
    def ends(self) -> list[int]:
        """For every query, reading first, how many chunks had been written before it."""
        reading = [start for start, end in self.windows for _ in range(start, end)]
        return [*reading, *(written for written, _ in self.questions)]


def record(events: Iterable[Event], chunk_tokens: int, top_k: int, whole_sentences: bool = False) -> Recording:
    """Return what the events of a session say about its chunks and questions.

    Raises:
        ConfigError: when nothing was read.
    """
    chunks: list[ChunkWritten] = []
    questions: list[tuple[int, QuestionAsked]] = []
    for event in events:
        if isinstance(event, ChunkWritten):
            chunks.append(event)
        elif isinstance(event, QuestionAsked) and event.answer_from != "nothing":
            questions.append((len(chunks), event))
    if not chunks:
        raise ConfigError("Nothing has been read yet", "A session that has read a document", "Read one first")
    searched = tuple((written, event.question) for written, event in questions)
    origin = Origins()
    origins = tuple(origin.of(event) for _, event in questions)
    return Recording(tuple(chunks), searched, origins, chunk_tokens, top_k, whole_sentences)
