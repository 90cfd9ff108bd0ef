"""Eviction policies on what was really asked for: a recorded session replayed without the language model.

What a policy keeps is decided by triggers, and triggers by embeddings alone. So the same reading can be replayed
under every policy and capacity in seconds: each query of the record (a chunk being read, a question) fetches the best
chunks of those that would be held, and is compared with what it would have fetched had nothing ever left.

Shapes: n chunks, Q queries, E embedding size. No torch.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memlong.bank.capacity import Capacity
from memlong.bank.eviction import make_policy
from memlong.bank.ledger import ChunkPlace, Ledger
from memlong.evaluation.recording import Recording

Vectors = NDArray[np.float32]
Wanted = Sequence[NDArray[np.int64]]  # for each query, reading first, the places of the chunks that it would fetch
ENOUGH = 10  # chunks wanted by questions; fewer say little about a policy, and reading is judged by instead
ALIKE = 0.02  # of recall; policies nearer to each other are called alike
_AT_ONCE = 512  # queries whose scores lie in memory together: all of a large bank's would take gigabytes


@dataclass(frozen=True)
class SecondLook:
    """How questions look twice at what they find, as ``MemoryConfig.rerank_candidates`` says.

    Attributes:
        candidates: chunks looked at. scores: (a question's place among the recording's, places of chunks, the scores
            that found them) -> their scores after it.
    """

    candidates: int
    scores: Callable[[int, NDArray[np.int64], Vectors], Vectors]


@dataclass(frozen=True)
class Replayed:
    """One policy at one capacity.

    Attributes:
        policy: its name. capacity_tokens: of the bank. evicted: chunks that left.
        recall_reading, recall_questions: share of what an unbounded bank would have fetched that was still held, over
            chunks as queries and over questions; None without such queries.
        wanted_by_questions: chunks that questions would have fetched, each time counted.
        curve: (chunks written, recall until then) at up to 40 moments.
        missed: chunk id -> queries that would have fetched it after it had left. kept: ids held at the end.
    """

    policy: str
    capacity_tokens: int
    evicted: int
    recall_reading: float | None
    recall_questions: float | None
    wanted_by_questions: int
    curve: tuple[tuple[int, float], ...]
    missed: Mapping[int, int]
    kept: tuple[int, ...]

    @property
    def by_questions(self) -> bool:
        """Whether questions are enough to judge by."""
        return self.wanted_by_questions >= ENOUGH or self.recall_reading is None

    @property
    def recall(self) -> float:
        """The recall to judge by: over questions when there were enough, else over reading. Regret is 1 minus it."""
        recall = self.recall_questions if self.by_questions else self.recall_reading
        return 1.0 if recall is None else recall


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
    found: list[Replayed] = []
    total = len(policies) * len(capacities)
    for row in replays(recording, chunks_nE, questions_QE, policies, capacities):
        if row is None:
            continue
        found.append(row)
        if progress(len(found), total):
            break
    return found


def replays(
    recording: Recording,
    chunks_nE: Vectors,
    questions_QE: Vectors,
    policies: Sequence[str],
    capacities: Sequence[int],
    second: SecondLook | None = None,
) -> Iterator[Replayed | None]:
    """Yield what :func:`replay` returns, one replay after the other, all policies at one capacity first.

    None is yielded now and then in between, for whoever wants to stop or to show that it goes on. Memory is bounded:
    at most :data:`_AT_ONCE` queries' scores, or one window's, are held at a time, however much was read.

    Args:
        second: how questions look at what they find; None fetches what is found first.
    """
    queries_qE = np.concatenate([chunks_nE, questions_QE]) if len(questions_QE) else chunks_nE
    wanted: list[NDArray[np.int64]] = []
    ends, n = recording.ends, len(chunks_nE)
    for start in range(0, n, _AT_ONCE):
        part = slice(start, min(n, start + _AT_ONCE))
        wanted += wanted_by(queries_qE[part], ends[part], chunks_nE, recording.top_k)
        yield None
    for at in range(len(questions_QE)):
        one = slice(n + at, n + at + 1)
        wanted += wanted_by(queries_qE[one], ends[one], chunks_nE, recording.top_k, (at, second))
        yield None
    for capacity in capacities:
        for policy in policies:
            yield (yield from _Life(recording, queries_qE, wanted, policy, capacity, second).run())


def wanted_by(
    queries_QE: Vectors,
    ends: Sequence[int],
    chunks_nE: Vectors,
    top_k: int,
    looks: tuple[int, SecondLook | None] = (0, None),
) -> Wanted:
    """Return what each query would have fetched had nothing ever left.

    Args:
        ends: for each query, how many chunks had been written before it.
        looks: the first query's place among the recording's questions, and how they look at what they find.
    """
    found: list[NDArray[np.int64]] = []
    first, second = looks
    for start in range(0, len(ends), _AT_ONCE):
        part = ends[start : start + _AT_ONCE]
        scores_qn = queries_QE[start : start + _AT_ONCE] @ chunks_nE[: max(part)].T
        for query, (row, end) in enumerate(zip(scores_qn, part, strict=True), first + start):
            found.append(_fetched(row[:end], np.arange(end), top_k, (query, second)))
    return found


def wanted_later(recording: Recording, wanted: Wanted, chunk_id: int, written: int) -> tuple[list[int], list[str]]:
    """Return who would have fetched a chunk after it had left: ids of chunks read since, and questions asked since.

    A question in steps is one of them, in the words of who asked it, whichever of its steps would have.

    Args:
        wanted: of :func:`wanted_by`, for all chunks and then all questions.
        written: chunks that had been written when it left.
    """
    ids = [chunk.chunk_id for chunk in recording.chunks]
    place, n = ids.index(chunk_id), len(ids)
    chunks = [ids[query] for query in range(written, n) if place in wanted[query]]
    asked = zip(recording.questions, recording.origins, wanted[n:], strict=True)
    questions = dict(origin for (at, _), origin, found in asked if at >= written and place in found)
    return chunks, list(questions.values())


def conclusion(rows: Sequence[Replayed], used: str, capacity_tokens: int = 0) -> str:
    """Return in plain words which policy kept most, at the session's capacity if anything left there.

    Otherwise at the smallest capacity where anything did.

    Args:
        used: the policy that the session really has. capacity_tokens: what it may hold.
    """
    tight = [row for row in rows if row.evicted]
    if not tight:
        return "Nothing had to leave at these capacities, so every policy keeps all there is."
    sizes = {row.capacity_tokens for row in tight}
    size = capacity_tokens if capacity_tokens in sizes else min(sizes)
    here = sorted((row for row in tight if row.capacity_tokens == size), key=lambda row: -row.recall)
    best, worst = here[0], here[-1]
    room = f"with room for {size:,} tokens" + (", as memory has" if size == capacity_tokens else "")
    what = "questions" if best.by_questions else "the rest of the text"
    kept = f"of what {what} would have fetched from a bank without limits"
    if best.recall - worst.recall < ALIKE:
        return f"No policy would have kept more: {room}, each still held {best.recall:.0%} {kept}, within two points."
    ends = f"{worst.policy} least, {worst.recall:.0%}"
    mine = next((row for row in here if row.policy == used), None)
    if mine is None:
        return f"{best.policy} kept most: {room}, it still held {best.recall:.0%} {kept}, {ends}."
    own = f"{used}, which this session uses,"
    if best.recall - mine.recall >= ALIKE:
        least = "the least of all" if mine is worst else ends
        return (
            f"Yes, {best.policy} would have kept more: {room}, it still held {best.recall:.0%} {kept}; "
            f"{own} held {mine.recall:.0%}, {least}."
        )
    others = max(row.recall for row in here if row is not mine)
    alone = "kept most" if mine.recall - others >= ALIKE else "is as good as any, within two points"
    return (
        f"No other policy would have kept more: {room}, {own} {alone}: it still held {mine.recall:.0%} {kept}, {ends}."
    )


def _fetched(
    scores: Vectors, places: NDArray[np.int64], top_k: int, look: tuple[int, SecondLook | None]
) -> NDArray[np.int64]:
    """Return which of ``places`` a query fetches, best first.

    Args:
        look: a question's place among the recording's, and how it looks at what it finds.
    """
    query, second = look
    best = _best(scores, max(top_k, second.candidates) if second else top_k)
    if second is None:
        return places[best]
    looked = second.scores(query, places[best], scores[best])
    return places[best][np.lexsort((places[best], -looked))][:top_k]


def _best(scores: Vectors, top_k: int) -> NDArray[np.int64]:
    """Return the places of the largest scores, equal ones by place; minus infinity is never among them."""
    places = np.arange(len(scores))
    if len(scores) > 4 * top_k:  # ordering all of them would take most of a replay's time
        places = np.flatnonzero(scores >= np.partition(scores, len(scores) - top_k)[len(scores) - top_k])
    places = places[np.isfinite(scores[places])]
    order = np.argsort(-scores[places], kind="stable")[:top_k]
    return np.asarray(places[order], dtype=np.int64)


@dataclass
class _Life:
    """One replay on its way."""

    recording: Recording
    queries_qE: Vectors
    wanted: Wanted
    policy: str
    capacity_tokens: int
    second: SecondLook | None = None
    ledger: Ledger = field(default_factory=Ledger)
    evicted: int = 0
    missed: Counter[int] = field(default_factory=Counter)

    def run(self) -> Generator[None, None, Replayed]:
        """Live it; yields None after each block of queries."""
        recording, policy = self.recording, make_policy(self.policy)
        capacity = Capacity.of(self.capacity_tokens, recording.chunk_tokens, recording.whole_sentences)
        n = len(recording.chunks)
        every = max(1, n // 40)
        self.held = np.zeros(n, dtype=bool)
        reading, asked = [0, 0], [0, 0]
        curve: list[tuple[int, float]] = []
        waiting = deque(enumerate(recording.questions, start=n))
        for block in _blocks(recording.windows):
            self._prepare(block[0][0], block[-1][1])
            for start, end in block:
                while waiting and waiting[0][1][0] <= start:
                    self._ask(waiting.popleft()[0], asked)
                for at in range(start, end):
                    self._query(at, self.scores_bc[at - self.first], self.candidates, reading)
                self._write(start, end)
                for victim in policy.choose(self.ledger, capacity):
                    self.ledger.remove(victim.chunk_id)
                    self.held[victim.chunk_id] = False
                    self.evicted += 1
                if end // every > start // every and reading[1]:
                    curve.append((end, reading[0] / reading[1]))
            yield
        for query, _ in waiting:
            self._ask(query, asked)
        return self._result(reading, asked, curve)

    def _result(self, reading: list[int], asked: list[int], curve: list[tuple[int, float]]) -> Replayed:
        ids = [chunk.chunk_id for chunk in self.recording.chunks]
        missed = {ids[place]: times for place, times in self.missed.most_common()}
        shares = [tally[0] / tally[1] if tally[1] else None for tally in (reading, asked)]
        kept = tuple(ids[place] for place in np.flatnonzero(self.held))
        return Replayed(
            self.policy, self.capacity_tokens, self.evicted, shares[0], shares[1], asked[1], tuple(curve), missed, kept
        )

    def _prepare(self, start: int, end: int) -> None:
        """Work out the scores of a block of queries against all that can be held while it lasts."""
        self.first = start
        self.candidates = np.concatenate([np.flatnonzero(self.held[:start]), np.arange(start, end)])
        chunks_nE = self.queries_qE[: len(self.recording.chunks)]
        self.scores_bc = self.queries_qE[start:end] @ chunks_nE[self.candidates].T

    def _write(self, start: int, end: int) -> None:
        for at, chunk in enumerate(self.recording.chunks[start:end], start=start):
            self.ledger.write(ChunkPlace(chunk.doc_id, chunk.index_in_doc, chunk.span, chunk.n_tokens), at, at)
        self.held[start:end] = True

    def _ask(self, query: int, tally: list[int]) -> None:
        places = np.flatnonzero(self.held)
        scores = self.queries_qE[places] @ self.queries_qE[query]
        self._query(query, scores, places, tally, self.second)

    def _query(
        self,
        query: int,
        scores: Vectors,
        places: NDArray[np.int64],
        tally: list[int],
        second: SecondLook | None = None,
    ) -> None:
        """Trigger what this query finds of ``places``, and count how much of what it should have found was there."""
        wanted = self.wanted[query]
        there = self.held[wanted]
        tally[0] += int(there.sum())
        tally[1] += len(wanted)
        self.missed.update(int(place) for place in wanted[~there])
        held = self.held[places]
        look = (query - len(self.recording.chunks), second)
        found = _fetched(scores[held], places[held], self.recording.top_k, look)
        self.ledger.trigger(int(place) for place in found)


def _blocks(windows: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield windows that follow each other, at most _AT_ONCE chunks of them together but one at least."""
    block: list[tuple[int, int]] = []
    for window in windows:
        if block and window[1] - block[0][0] > _AT_ONCE:
            yield block
            block = []
        block.append(window)
    if block:
        yield block
