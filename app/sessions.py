"""Visitors: one state per open page, kept here and nowhere else, freed when the page is closed or left alone.

The page itself holds only a key (gradio's session hash, another one at every load) and a ticket: a secret of its
browser tab, by which a page that was loaded again finds what the one before it had. A limit on visitors protects the
machine's memory.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.engine import Engine
from app.settings import Settings
from app.shelf import Item, Shelf
from app.text import plural
from app.vectors import Vectors
from memlong.config import AskOptions
from memlong.errors import BankError, MemLongError

if TYPE_CHECKING:
    from memlong.session.results import Answer, Evidence
    from memlong.session.session import Session

_TICKET = re.compile(r"[0-9a-f]{48,64}")  # at least 192 random bits: nobody guesses one


@dataclass(frozen=True)
class Missed:
    """A chunk that had left when a question was asked that would have fetched it.

    Attributes:
        place: in words, or "". score, rank: among all that ever were here, 1 the best. A question's words are weighed
            by what may be found, so that the scores of what was fetched from the memory as it was are on another scale.
        likely: whether it may well answer: something is always the nearest, also to a question of which no text tells.
        question: that would have fetched it, where that is not the one that was asked: a step, or what came of one.
    """

    chunk_id: int
    place: str
    score: float
    rank: int
    likely: bool = True
    question: str = ""


@dataclass
class Exchange:
    """A question and what came of it.

    Attributes:
        text: the answer so far. answer: the finished one; None while it is being written.
        steps: what was asked before it, and the answers so far.
        options: how it was asked; None when that is not known.
        error: why there is none. cut: whether its page went away before it was finished.
        liked: the visitor's thumb, up or down, or None.
        missed: chunks it would have fetched that had left; None while nobody asked.
        looking: "asked" or "working" while these are looked for, else "".
    """

    question: str
    text: str = ""
    answer: Answer | None = None
    found: tuple[Evidence, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()
    error: MemLongError | None = None
    cut: bool = False
    liked: bool | None = None
    options: AskOptions | None = None
    missed: tuple[Missed, ...] | None = None
    looking: str = ""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The chunks fetched for it, best first, as known by now; behind them those of the steps before it."""
        return self.answer.evidence if self.answer else self.found

    @property
    def asked_first(self) -> tuple[tuple[str, str], ...]:
        """What was asked before it, and found, as known by now."""
        return self.answer.asked_first if self.answer else self.steps

    @property
    def asked(self) -> str:
        """The question as memory was asked in the end (see ``Answer.asked``)."""
        return self.answer.asked if self.answer else self.question

    @property
    def reworded(self) -> str:
        """The question as memory was asked it in other words than the visitor's; "" for none."""
        return self.asked if self.asked != self.question else ""

    @property
    def alone(self) -> str:
        """The question as it can be asked without the conversation: with the name that a follow-up leaves out."""
        return self.question if self.answer and self.answer.steps else self.asked or self.question


@dataclass
class Visit:
    """What one visitor has: documents, memory, conversation, and flags that stop work at the next step.

    Attributes:
        session: the memory; made when it is first needed. exchanges: the conversation.
        shown: index of the exchange whose evidence is shown; None for the newest.
        retries: questions asked again, which is the seed of the next one.
        reading, answering, experimenting: whether that work is going on now; comparing: whether the experiment answers
            questions. stop_reading, stop_answering, stop_lab: asked once a step.
        vectors: what the session's chunks were embedded to; made with it.
        interrupted: whether reading ended because its page went away; it goes on when the page is back. wants_all:
            whether it goes on with every document, and not only with such as were asked for by name.
        refused: why the last question was not taken; None after one that was.
        emptied: whether another model took memory and conversation away, until something is read again; stale: whether
            the page does not show that yet.
        maps: what the memory maps of its page show, by name, so that they are told only what changes.
        saved: where files lie that were made for saving, until the visitor goes; None before the first.
        ticket: of the browser tab, "" when it has none. left: when its page closed; None while it is open.
    """

    key: str
    engine: Engine
    shelf: Shelf = field(default_factory=Shelf)
    session: Session | None = None
    vectors: Vectors | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    shown: int | None = None
    retries: int = 0
    reading: bool = False
    answering: bool = False
    experimenting: bool = False
    comparing: bool = False
    interrupted: bool = False
    wants_all: bool = False
    refused: MemLongError | None = None
    emptied: bool = False
    stale: bool = False
    maps: dict[str, Any] = field(default_factory=dict)
    saved: tempfile.TemporaryDirectory[str] | None = None
    ticket: str = ""
    left: float | None = None
    stop_reading: threading.Event = field(default_factory=threading.Event)
    stop_answering: threading.Event = field(default_factory=threading.Event)
    stop_lab: threading.Event = field(default_factory=threading.Event)
    seen: float = field(default_factory=time.monotonic)
    closed: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def will_read(self, item: Item) -> bool:
        """Whether a document that waits is read without anybody asking for it once more."""
        return self.reading and item.state == "waiting" and (self.wants_all or item.wanted)

    def turns(self, number: int) -> list[tuple[str, str]]:
        """Return the conversation before exchange ``number`` as (question, answer) pairs."""
        answered = [each for each in self.exchanges[:number] if each.answer and not each.answer.stopped_in_steps]
        return [(each.question, each.text) for each in answered]

    def memory(self) -> Session:
        """Return the session, made now if there is none.

        Raises:
            ModelError: while the model is loading. BankError: when a bank does not fit into memory.
        """
        with self.lock:
            if self.session is None:
                try:
                    self.session = self.engine.new_session()
                except BankError:
                    if not self.engine.make_room():
                        raise
                    self.session = self.engine.new_session()
                self.session.layers.at_once = False  # until somebody looks at layers, see settle_layers
                self.vectors = Vectors(self.session)
            return self.session

    def settle_layers(self) -> None:
        """Have the trace tell of layers and heads, for whoever looks at them now; answers alone do not pay for it."""
        notes = self.session.layers if self.session is not None else None
        if notes is not None and notes.waiting:
            self.engine.run(notes.settle)

    @property
    def busy(self) -> bool:
        """Whether work is going on for this visitor."""
        return self.reading or self.answering or self.experimenting

    @property
    def blank(self) -> bool:
        """Whether nothing would be lost with it."""
        return self.session is None and not len(self.shelf) and not self.exchanges

    def outbox(self) -> Path:
        """Return a new folder for a file that is made for saving."""
        with self.lock:
            if self.saved is None:
                self.saved = tempfile.TemporaryDirectory(prefix="memlong-", ignore_cleanup_errors=True)
            return Path(tempfile.mkdtemp(dir=self.saved.name))

    def start_over(self) -> None:
        """Let go of memory and conversation; documents stay, and wait to be read anew."""
        self.stop_reading.set()
        self.stop_answering.set()
        self.stop_lab.set()
        with self.lock:
            self.emptied = self.emptied or bool(self.exchanges or (self.session and len(self.session.bank)))
            self.stale = True
            self.session, self.vectors, self.exchanges, self.shown, self.retries = None, None, [], None, 0
            self.refused = None
            for item in self.shelf:
                item.start_over()

    def close(self) -> None:
        """Stop everything at the next step and let go of documents, memory and files."""
        self.closed = True
        self.stop_reading.set()
        self.stop_answering.set()
        self.stop_lab.set()
        with self.lock:
            held, self.session = self.session is not None, None
            self.vectors, self.shelf, self.exchanges = None, Shelf(), []
            if self.saved is not None:
                self.saved.cleanup()
                self.saved = None
        if held:
            from memlong.bank.memory import give_back

            give_back()


class Visits:
    """All visitors, by key.

    Args:
        settings: how many, for how long without a click, and for how long after their page closed.
        engine: what they share. clock: seconds; tests give theirs.
    """

    def __init__(self, settings: Settings, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._idle = settings.sessions, 60.0 * settings.session_minutes
        self._kept = 60.0 * settings.closed_minutes
        self._engine, self._clock = engine, clock
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()
        engine.make_room = self.free_closed

    def __len__(self) -> int:
        return len(self._visits)

    def get(self, key: str) -> Visit:
        """Return the visitor with this key, a new one if there is none.

        Raises:
            MemLongError: when there are as many as allowed, and none of them has been idle for long enough.
        """
        with self._lock:
            return self._get(key)

    def peek(self, key: str) -> Visit | None:
        """Return the visitor with this key, if any; for a page that looks by itself, which is no sign of life."""
        return self._visits.get(key)

    def claim(self, key: str, ticket: str) -> Visit:
        """Return the visitor that has a ticket, from now on under this key: the page was loaded again.

        Without such a visitor it is the one with this key, and the ticket is theirs. A ticket that is none is ignored.

        Raises:
            MemLongError: see :meth:`get`.
        """
        with self._lock:
            if not _TICKET.fullmatch(ticket):
                return self._get(key)
            found = next((visit for visit in self._visits.values() if visit.ticket == ticket), None)
            here = self._visits.get(key)
            if found is None or found is here or not (here is None or here.blank):
                found = self._get(key)
                found.ticket = found.ticket or ticket
                return found
            del self._visits[found.key]
            found.key, found.left, found.seen = key, None, self._clock()
            found.maps.clear()  # those of the new page are empty
            self._visits[key] = found
            return found

    def leave(self, key: str) -> None:
        """Note that a page closed: what it had is kept for a while if the page can find it again, else freed."""
        with self._lock:
            visit = self._visits.get(key)
            kept = visit is not None and bool(visit.ticket) and not visit.blank
            if visit is not None and kept:
                visit.left = self._clock()
        if not kept:
            self.close(key)
            return
        timer = threading.Timer(self._kept + 1.0, self.sweep)
        timer.daemon = True
        timer.start()

    def sweep(self) -> None:
        """Free visitors whose time is over."""
        with self._lock:
            self._sweep(self._clock())

    def free_closed(self) -> bool:
        """Free everybody whose page is closed, when memory is short; returns whether there was somebody."""
        with self._lock:
            gone = [visit for visit in self._visits.values() if visit.left is not None]
            for visit in gone:
                self._free(visit)
            return bool(gone)

    def close(self, key: str) -> None:
        """Free what a visitor had; unknown keys are fine."""
        with self._lock:
            visit = self._visits.pop(key, None)
        if visit is not None:
            visit.close()

    def close_all(self) -> None:
        """Free everything, when the app ends."""
        for key in list(self._visits):
            self.close(key)

    def __iter__(self) -> Iterator[Visit]:
        return iter(list(self._visits.values()))

    def _get(self, key: str) -> Visit:
        now = self._clock()
        visit = self._visits.get(key)
        if visit is None:
            self._sweep(now)
            self._make_room()
            if len(self._visits) >= self._most:
                raise MemLongError(
                    f"{plural(self._most, 'visitor')} are here already",
                    f"At most {self._most} at a time",
                    "Try again in some minutes",
                )
            visit = self._visits[key] = Visit(key, self._engine)
        visit.seen, visit.left = now, None  # a page that only lost its connection is there again
        return visit

    def _make_room(self) -> None:
        """Free the visitor whose page has been closed for longest, when a new one would be one too many."""
        gone = [visit for visit in self._visits.values() if visit.left is not None]
        if gone and len(self._visits) >= self._most:
            self._free(min(gone, key=lambda visit: visit.left or 0.0))

    def _sweep(self, now: float) -> None:
        """Free those who closed their page, or left it alone, for too long; work that goes on counts as being there."""
        for visit in list(self._visits.values()):
            closed = visit.left is not None and now - visit.left > self._kept
            if closed or (not visit.busy and now - visit.seen > self._idle):
                self._free(visit)

    def _free(self, visit: Visit) -> None:
        del self._visits[visit.key]
        visit.close()
