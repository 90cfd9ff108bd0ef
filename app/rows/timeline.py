"""A session's trace, indexed once and then kept up to date, so that a view costs what it shows.

A book of 100,000 tokens and a few answers are some 15,000 events; a view that followed them all at every
frame would be the slowest part of reading. Here each event is looked at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from memlong.trace.events import (
    CapacityChanged,
    ChunkWritten,
    Deleted,
    DocumentClosed,
    DocumentOpened,
    Event,
    Evicted,
    LayerMass,
    QuestionAsked,
    Restored,
    Retrieved,
    TokenGenerated,
)
from memlong.trace.questions import Origins
from memlong.trace.recorder import Recorder, chunks_of
from memlong.trace.replay import Replayer, ReplayState

_MOVES = (ChunkWritten, Evicted, Deleted, Restored, CapacityChanged, DocumentClosed)


class Fill(NamedTuple):
    """How full the bank was after one event.

    Attributes:
        step: event clock. written, evicted: chunks so far. tokens: held. capacity: tokens that may be held,
            or None before it was said.
    """

    step: int
    written: int
    evicted: int
    tokens: int
    capacity: int | None


class Landmark(NamedTuple):
    """A step worth jumping to, and what happened there in a few words (plain text of a stranger: escape
    it).
    """

    step: int
    words: str


class Asked(NamedTuple):
    """A question of a trace, as part of what people asked.

    Attributes:
        number: of what people asked, from 1: a question in steps is one. step: among all that was asked for it, from 1.
        words: as people asked it. alone: whether the question itself was asked as it stands.
    """

    number: int
    step: int
    words: str
    alone: bool


class Timeline:
    """What the views of one trace need, grown event by event. Any thread may ask; nothing handed out changes.

    Attributes:
        events: all events seen. fills: one :class:`Fill` for each event that moved chunks.
        stops: the steps a person can go back to: all but the per-layer masses.
        landmarks: beginnings of documents and questions. written: chunks ever written.
        documents_of: (document, place in it) of a chunk by id; ids_of: the other way round.
        about: events of a chunk by id, in order: what happened to it, found it, or looked at it.
        removed: step at which a document was removed, by its id.
        chunk_tokens: tokens of the longest chunk seen. titles: of documents by id. questions: as memory was
            asked them, by answer id. asked: what people asked for it, by answer id too.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = []
        self.fills: list[Fill] = []
        self.stops: list[int] = []
        self.landmarks: list[Landmark] = []
        self.titles: dict[int, str] = {}
        self.questions: dict[int, str] = {}
        self.asked: dict[int, Asked] = {}
        self.documents_of: dict[int, tuple[int, int]] = {}
        self.ids_of: dict[tuple[int, int], int] = {}
        self.about: dict[int, list[Event]] = {}
        self.removed: dict[int, int] = {}
        self.written = self.evicted = self.chunk_tokens = 0
        self._masses: list[TokenGenerated] = []
        self._retrievals: list[Retrieved] = []
        self._attention: dict[int, float] = {}  # of all tokens so far
        self._origins, self._steps = Origins(), Counter[int]()
        self._live = ReplayState()
        self._replayer = Replayer(self.events)
        self._lock = threading.Lock()
        self.update(events)

    def update(self, events: Iterable[Event]) -> None:
        """Take in events that follow those seen; PersistError when the trace is not whole."""
        with self._lock:
            for event in events:
                if event.step == len(self.events):  # another thread may have brought it already
                    self._take(event)

    def state(self, step: int | None = None) -> ReplayState:
        """Return the bank after ``step``, the caller's own; None is now."""
        with self._lock:
            return self._live.copy() if step is None or step >= len(self.events) - 1 else self._replayer.at(step)

    def written_by(self, step: int | None) -> int:
        """Return how many chunks were written up to and with ``step``."""
        fill = self.fill(step)
        return fill.written if fill else 0

    def fill(self, step: int | None) -> Fill | None:
        """Return how full the bank was after ``step``; None before anything moved."""
        if step is None or not self.fills or step >= self.fills[-1].step:
            return self.fills[-1] if self.fills else None
        at = _count_until(self.fills, step)
        return self.fills[at - 1] if at else None

    def attention(self, step: int | None = None) -> dict[int, float]:
        """Return for each chunk the attention mass it got, summed over generated tokens up to ``step``."""
        count = _count_until(self._masses, step)
        if count == len(self._masses):
            with self._lock:
                return self._attention.copy()
        total: dict[int, float] = {}
        for event in self._masses[:count]:
            _add_up(total, event)
        return total

    def attention_share(self, step: int | None = None) -> dict[int, float]:
        """Return for each chunk its mean share of the attention of every token generated up to ``step``."""
        count = _count_until(self._masses, step)
        return {chunk_id: total / count for chunk_id, total in self.attention(step).items()}

    def last_hits(self, step: int | None = None) -> tuple[int, ...]:
        """Return the chunks that the last search up to ``step`` found."""
        count = _count_until(self._retrievals, step)
        return tuple(hit.chunk_id for hit in self._retrievals[count - 1].hits) if count else ()

    def stop_at(self, position: int) -> int | None:
        """Return the step of a replay position (0 is the first stop); None at or after the last: now."""
        return self.stops[max(0, position)] if position < len(self.stops) - 1 else None

    def position_of(self, step: int) -> int:
        """Return the replay position at or before ``step``."""
        low, high = 0, len(self.stops)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.stops[middle] <= step else (low, middle)
        return max(0, low - 1)

    def step_of(self, answer_id: int) -> int:
        """Return which step of a question an answer is of, from 1; 0 for that of the question itself.

        The last of several is the question itself, with what the steps found in its words.
        """
        asked = self.asked.get(answer_id)
        if asked is None or asked.alone or 1 < asked.step == self._steps[asked.number]:
            return 0
        return asked.step

    def number_of(self, answer_id: int) -> str:
        """Return the number of a question and its answer in words: "2", or "2, step 1"."""
        asked, step = self.asked.get(answer_id), self.step_of(answer_id)
        number = asked.number if asked else answer_id + 1
        return f"{number}, step {step}" if step else str(number)

    def _take(self, event: Event) -> None:
        self._live.apply(event)
        self.events.append(event)
        for chunk_id in chunks_of(event):
            self.about.setdefault(chunk_id, []).append(event)
        if not isinstance(event, LayerMass):
            self.stops.append(event.step)
        if isinstance(event, TokenGenerated) and event.chunk_mass:
            self._masses.append(event)
            _add_up(self._attention, event)
        elif isinstance(event, Retrieved):
            self._retrievals.append(event)
        elif isinstance(event, DocumentOpened):
            self.titles[event.doc_id] = event.title
            self.landmarks.append(Landmark(event.step, f"Reading begins: {event.title}"))
        elif isinstance(event, QuestionAsked):
            self._ask(event)
        elif isinstance(event, _MOVES):
            self._move(event)

    def _ask(self, event: QuestionAsked) -> None:
        place, words = self._origins.of(event)
        number = place + 1
        self._steps[number] += 1
        step = self._steps[number]
        self.questions[event.answer_id] = event.question
        self.asked[event.answer_id] = Asked(number, step, words, not event.step_of)
        if step == 1:
            self.landmarks.append(Landmark(event.step, f"Question {number}: {words}"))

    def _move(self, event: Event) -> None:
        if isinstance(event, ChunkWritten):
            self.written += 1
            self.chunk_tokens = max(self.chunk_tokens, event.n_tokens)
            self.documents_of[event.chunk_id] = (event.doc_id, event.index_in_doc)
            self.ids_of[event.doc_id, event.index_in_doc] = event.chunk_id
        elif isinstance(event, DocumentClosed) and event.status == "removed":
            self.removed[event.doc_id] = event.step
        elif isinstance(event, Evicted):
            self.evicted += 1
            if self.evicted == 1:
                self.landmarks.append(Landmark(event.step, "The bank is full: first eviction"))
        live = self._live
        self.fills.append(Fill(event.step, self.written, self.evicted, live.occupancy_tokens, live.capacity_tokens))


def _add_up(total: dict[int, float], event: TokenGenerated) -> None:
    for chunk_id, mass in event.chunk_mass or ():
        total[chunk_id] = total.get(chunk_id, 0.0) + mass


_TIMELINES: WeakKeyDictionary[Recorder, Timeline] = WeakKeyDictionary()
_TIMELINES_LOCK = threading.Lock()


def timeline_of(recorder: Recorder) -> Timeline:
    """Return the timeline of a recorder, brought up to date. It is kept as long as the recorder lives."""
    with _TIMELINES_LOCK:
        timeline = _TIMELINES.setdefault(recorder, Timeline())
    timeline.update(recorder.since(len(timeline.events)))
    return timeline


def _count_until(events: Sequence[Event] | Sequence[Fill], step: int | None) -> int:
    """Return how many of ``events`` (by rising step) happened up to and with ``step``; None is all."""
    if step is None:
        return len(events)
    low, high = 0, len(events)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if events[middle].step <= step else (low, middle)
    return low
