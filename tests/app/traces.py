"""Hand-made sessions: a trace as a real one would leave it, with documents, in milliseconds and without a
model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from memlong.session.results import DocumentState
from memlong.trace import events as e
from memlong.trace.recorder import Recorder

WORDS = "harbour ledger bridge lamp river stone salt barrel letter winter council gate copper mill".split()
SENTENCE = "fewest triggers ({count}), oldest first"


@dataclass
class Made:
    """A recorder that simulates a bank of ``capacity`` chunks of ``tokens`` tokens, fewest triggers out
    first.
    """

    recorder: Recorder
    documents: dict[int, DocumentState]
    capacity: int
    tokens: int = 256
    layers: tuple[int, ...] = (4, 5, 6, 7)
    heads: int = 3

    def __post_init__(self) -> None:
        self.random = random.Random(7)
        self.counts: dict[int, int] = {}
        self.pinned: set[int] = set()
        self.gone: dict[int, e.Restored] = {}
        self.written: dict[int, e.ChunkWritten] = {}
        self.recorder.append(e.CapacityChanged(self.capacity * self.tokens, "trigger_count"))

    def read(self, n_chunks: int, title: str, upto: int | None = None) -> int:
        """Read a document of ``n_chunks``, or its first ``upto`` ones, and return its id."""
        doc_id, add = len(self.documents), self.recorder.append
        lines = [
            f"{title} part {i}: the {self.random.choice(WORDS)} and the {self.random.choice(WORDS)}. "
            for i in range(n_chunks)
        ]
        text = "".join(lines)
        done = n_chunks if upto is None else upto
        self.documents[doc_id] = DocumentState(doc_id, title, text, (), n_chunks * self.tokens, n_chunks, done, "done")
        add(e.DocumentOpened(doc_id, title, n_chunks * self.tokens, n_chunks, len(text)))
        at = 0
        for index, line in enumerate(lines[:done]):
            if self.counts:
                self.search("chunk", index, doc_id)
            event = add(e.ChunkWritten(len(self.written), doc_id, index, (at, at + len(line)), self.tokens, index))
            at += len(line)
            self.written[event.chunk_id], self.counts[event.chunk_id] = event, 0
            self.evict()
        if upto is None:
            add(e.DocumentClosed(doc_id, "done", n_chunks, 1.5))
        return doc_id

    def search(self, query: str, query_id: int, doc_id: int | None = None, k: int = 4) -> tuple[int, ...]:
        """Trigger a few chunks, the same ones more often than others."""
        held = sorted(self.counts)
        found = {held[min(int(self.random.expovariate(8.0) * len(held)), len(held) - 1)] for _ in range(k)}
        hits = []
        for rank, chunk_id in enumerate(sorted(found), start=1):
            self.counts[chunk_id] += 1
            hits.append(e.Hit(chunk_id, 0.9 - 0.1 * rank - 0.02 * self.random.random(), rank, self.counts[chunk_id]))
        self.recorder.append(e.Retrieved(query, query_id, doc_id, tuple(hits)))
        return tuple(hit.chunk_id for hit in hits)

    def evict(self) -> None:
        """Let the least triggered ones go until the rest fits."""
        while len(self.counts) > self.capacity:
            chunk_id = min(set(self.counts) - self.pinned, key=lambda each: (self.counts[each], each))
            self.leave(chunk_id)

    def leave(self, chunk_id: int) -> None:
        """Evict one chunk."""
        count, written = self.counts.pop(chunk_id), self.written[chunk_id]
        held = (len(self.counts) + 1) * self.tokens
        self.recorder.append(
            e.Evicted(
                chunk_id, written.doc_id, "trigger_count", SENTENCE.format(count=count), count,
                len(self.written) - chunk_id, held, self.capacity * self.tokens,
            )
        )  # fmt: skip
        self.gone[chunk_id] = e.Restored(
            chunk_id, written.doc_id, written.index_in_doc, written.span, written.n_tokens, count
        )

    def pin(self, chunk_id: int) -> None:
        """Pin one chunk."""
        self.pinned.add(chunk_id)
        self.recorder.append(e.Pinned(chunk_id))

    def restore(self, chunk_id: int) -> None:
        """Bring one back, as it was."""
        event = self.recorder.append(self.gone.pop(chunk_id))
        self.counts[chunk_id] = event.trigger_count
        self.evict()

    def ask(self, question: str, n_tokens: int = 6, masses: bool = True, of: str = "") -> int:
        """Answer a question in made-up words, looking at memory more in the upper layers and at later
        tokens. ``of``: the question that it is a step of.
        """
        add = self.recorder.append
        answer_id = sum(isinstance(event, e.QuestionAsked) for event in self.recorder)
        add(e.QuestionAsked(answer_id, question, "memory", 4, None, of))
        found = self.search("question", answer_id)
        for index in range(n_tokens):
            total = [0.0] * len(found)
            for depth, layer in enumerate(self.layers if masses else ()):
                scale = 0.9 * (depth + 1) * (index + 1) / len(self.layers) / n_tokens
                weights = [scale / (place + 2) for place in range(len(found))]
                heads = [[weight * self.random.random() for weight in weights] for _ in range(self.heads)]
                mean = [sum(column) / self.heads for column in zip(*heads)]
                total = [a + b / len(self.layers) for a, b in zip(total, mean)]
                add(
                    e.LayerMass(
                        answer_id, index, layer, 1 - sum(mean), tuple(zip(found, mean)),
                        tuple(map(sum, heads)), tuple(map(tuple, heads)),
                    )
                )  # fmt: skip
            mass = (sum(total), tuple(zip(found, total))) if masses else (None, None)
            add(e.TokenGenerated(answer_id, index, 100 + index, f" {WORDS[index % len(WORDS)]}", -0.5, *mass))
        words = " ".join(WORDS[index % len(WORDS)] for index in range(n_tokens))
        add(e.AnswerFinished(answer_id, words, "end", {"decode": 0.5}, n_tokens, 0.2 if masses else None, False))
        return answer_id


def made(capacity: int = 20) -> Made:
    """Return an empty one."""
    return Made(Recorder(), {}, capacity)


def full(n_chunks: int = 60, capacity: int = 20) -> Made:
    """Return one that read a document and a half, evicted, was asked twice, and had a chunk pinned."""
    session = made(capacity)
    session.read(n_chunks, "The ledger <b>of</b> ships")
    session.ask("Who kept the ledger?")
    session.pin(max(session.counts))
    session.read(n_chunks // 2, "Letters", upto=n_chunks // 4)
    session.ask("When was the bridge rebuilt?")
    return session
