"""Eviction policies on what was really asked for: a recorded session replayed without the language model.

What a policy keeps is decided by triggers, and triggers by embeddings alone. So the same reading can be replayed
under every policy and capacity in seconds: each query of the record (a chunk being read, a question) fetches the best
chunks of those that would be held, and is compared with what it would have fetched had nothing ever left.

Shapes: n chunks, Q queries, E embedding size. No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memlong.bank.capacity import Capacity
from memlong.bank.eviction import make_policy
from memlong.bank.ledger import ChunkPlace, Ledger
from memlong.errors import ConfigError
from memlong.trace.events import ChunkWritten, Event, QuestionAsked

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """What happened in a session, as far as policies care.

    Attributes:
        chunks: the chunks in the order they were written. questions: (chunks written before it, its text), in order.
        chunk_tokens: tokens of a full chunk. top_k: chunks a query fetches.
    """

    chunks: tuple[ChunkWritten, ...]
    questions: tuple[tuple[int, str], ...]
    chunk_tokens: int
    top_k: int

    @property
    def tokens(self) -> int:
        """Tokens of all chunks."""
        return sum(chunk.n_tokens for chunk in self.chunks)


@dataclass(frozen=True)
class Replayed:
    """One policy at one capacity.

    Attributes:
        policy: its name. capacity_tokens: of the bank. evicted: chunks that left.
        recall_reading, recall_questions: share of what an unbounded bank would have fetched that was still held, over
            chunks as queries and over questions; None without such queries. Regret is 1 minus it.
        curve: (chunks written, recall until then) at up to 40 moments.
        missed: chunk id -> queries that would have fetched it after it had left. kept: ids held at the end.
    """

    policy: str
    capacity_tokens: int
    evicted: int
    recall_reading: float | None
    recall_questions: float | None
    curve: tuple[tuple[int, float], ...]
    missed: Mapping[int, int]
    kept: tuple[int, ...]


def record(events: Iterable[Event], chunk_tokens: int, top_k: int) -> Recording:
    """Return what the events of a session say about its chunks and questions.

    Raises:
        ConfigError: when nothing was read.
    """
    chunks: list[ChunkWritten] = []
    questions: list[tuple[int, str]] = []
    for event in events:
        if isinstance(event, ChunkWritten):
            chunks.append(event)
        elif isinstance(event, QuestionAsked) and event.answer_from != "nothing":
            questions.append((len(chunks), event.question))
    if not chunks:
        raise ConfigError("Nothing has been read yet", "A session that has read a document", "Read one first")
    return Recording(tuple(chunks), tuple(questions), chunk_tokens, top_k)


def replay(
    recording: Recording,
    chunks_nE: Vectors,
    questions_QE: Vectors,
    policies: Sequence[str],
    capacities: Sequence[int],
    progress: Callable[[int, int], bool] = lambda done, total: False,
) -> list[Replayed]:
    """Replay a recording under every policy and capacity.

    Args:
        chunks_nE, questions_QE: embeddings, in the recording's order.
        capacities: in tokens. progress: told (done, total) after each replay; returns whether to stop.

    Raises:
        BankError: for an unknown policy, or a capacity below one chunk.
    """
    queries = np.concatenate([chunks_nE, questions_QE]) if len(questions_QE) else chunks_nE
    scores_qn = np.asarray(queries @ chunks_nE.T, dtype=np.float32)
    wanted = _unbounded(recording, scores_qn)
    found: list[Replayed] = []
    total = len(policies) * len(capacities)
    for capacity in capacities:
        for policy in policies:
            found.append(_Life(recording, scores_qn, wanted, policy, capacity).run())
            if progress(len(found), total):
                return found
    return found


def conclusion(rows: Sequence[Replayed], used: str) -> str:
    """Return in plain words which policy kept most, at the smallest capacity where anything left.

    Args:
        used: the policy that the session really has.
    """
    tight = [row for row in rows if row.evicted]
    if not tight:
        return "Nothing had to leave at these capacities, so every policy keeps all there is."
    smallest = min(row.capacity_tokens for row in tight)
    here = sorted((row for row in tight if row.capacity_tokens == smallest), key=lambda row: -(_overall(row) or 0.0))
    best, worst = here[0], here[-1]
    words = (
        f"With {smallest:,} tokens, {best.policy} still held {_overall(best):.0%} of the chunks that a bank without "
        f"limits would have fetched, {worst.policy} {_overall(worst):.0%}."
    )
    mine = next((row for row in here if row.policy == used), None)
    if mine is None or mine is best:
        return words + (f" {used}, which this session uses, kept the most." if mine else "")
    gap = (_overall(best) or 0.0) - (_overall(mine) or 0.0)
    if gap < 0.02:
        return words + f" {used}, which this session uses, is as good within two points."
    return words + f" {used}, which this session uses, held {_overall(mine):.0%}: {best.policy} would have kept more."


def _overall(row: Replayed) -> float | None:
    return row.recall_questions if row.recall_questions is not None else row.recall_reading


def _unbounded(recording: Recording, scores_qn: Vectors) -> list[NDArray[np.int64]]:
    """Return for every query what it fetches when nothing ever left."""
    n = len(recording.chunks)
    ends = [*range(n), *(written for written, _ in recording.questions)]
    return [_best(scores_qn[query, :end], recording.top_k) for query, end in enumerate(ends)]


def _best(scores: Vectors, top_k: int) -> NDArray[np.int64]:
    """Return the places of the largest scores, equal ones by place; minus infinity is never among them."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return np.asarray(order[np.isfinite(scores[order])], dtype=np.int64)


@dataclass
class _Life:
    """One replay on its way."""

    recording: Recording
    scores_qn: Vectors
    wanted: Sequence[NDArray[np.int64]]
    policy: str
    capacity_tokens: int
    ledger: Ledger = field(default_factory=Ledger)
    evicted: int = 0
    missed: Counter[int] = field(default_factory=Counter)

    def run(self) -> Replayed:
        recording, policy = self.recording, make_policy(self.policy)
        capacity = Capacity.of(self.capacity_tokens, recording.chunk_tokens)
        n = len(recording.chunks)
        self.held = np.zeros(n, dtype=bool)
        reading, asked = [0, 0], [0, 0]
        curve: list[tuple[int, float]] = []
        waiting = list(enumerate(recording.questions, start=n))
        for at, chunk in enumerate(recording.chunks):
            while waiting and waiting[0][1][0] <= at:
                self._query(waiting.pop(0)[0], asked)
            self._query(at, reading)
            self.ledger.write(ChunkPlace(chunk.doc_id, chunk.index_in_doc, chunk.span, chunk.n_tokens), at, at)
            self.held[at] = True
            for victim in policy.choose(self.ledger, capacity):
                self.ledger.remove(victim.chunk_id)
                self.held[victim.chunk_id] = False
                self.evicted += 1
            if (at + 1) % max(1, n // 40) == 0 and reading[1]:
                curve.append((at + 1, reading[0] / reading[1]))
        for query, _ in waiting:
            self._query(query, asked)
        ids = [chunk.chunk_id for chunk in recording.chunks]
        missed = {ids[place]: times for place, times in self.missed.most_common()}
        shares = [tally[0] / tally[1] if tally[1] else None for tally in (reading, asked)]
        kept = tuple(ids[place] for place in np.flatnonzero(self.held))
        return Replayed(
            self.policy, self.capacity_tokens, self.evicted, shares[0], shares[1], tuple(curve), missed, kept
        )

    def _query(self, query: int, tally: list[int]) -> None:
        """Trigger what this query finds, and count how much of what it should have found was there."""
        wanted = self.wanted[query]
        there = self.held[wanted]
        tally[0] += int(there.sum())
        tally[1] += len(wanted)
        self.missed.update(int(place) for place in wanted[~there])
        found = _best(np.where(self.held, self.scores_qn[query], -np.inf), self.recording.top_k)
        self.ledger.trigger(int(place) for place in found)
