"""Visitors: one state per open page, kept here and nowhere else, freed when the page closes or is left alone.

The page itself holds only a key (gradio's session hash). A limit on visitors protects the machine's memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.engine import Engine
from app.library import Library
from app.settings import Settings
from app.text import plural
from app.vectors import Vectors
from memlong.config import AskOptions
from memlong.errors import MemLongError

if TYPE_CHECKING:
    from memlong.session.results import Answer, Evidence
    from memlong.session.session import Session


@dataclass
class Exchange:
    """A question and what came of it.

    Attributes:
        text: the answer so far. answer: the finished one; None while it is being written.
        options: how it was asked; None when that is not known.
        error: why there is none. liked: the visitor's thumb, up or down, or None.
    """

    question: str
    text: str = ""
    answer: Answer | None = None
    found: tuple[Evidence, ...] = ()
    error: MemLongError | None = None
    liked: bool | None = None
    options: AskOptions | None = None

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The chunks fetched for it, best first, as known by now."""
        return self.answer.retrieved if self.answer else self.found


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
    """

    key: str
    engine: Engine
    library: Library = field(default_factory=Library)
    session: Session | None = None
    vectors: Vectors | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    shown: int | None = None
    retries: int = 0
    reading: bool = False
    answering: bool = False
    experimenting: bool = False
    comparing: bool = False
    stop_reading: threading.Event = field(default_factory=threading.Event)
    stop_answering: threading.Event = field(default_factory=threading.Event)
    stop_lab: threading.Event = field(default_factory=threading.Event)
    seen: float = field(default_factory=time.monotonic)
    closed: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def memory(self) -> Session:
        """Return the session, made now if there is none.

        Raises:
            ModelError: while the model is loading. BankError: when a bank does not fit into memory.
        """
        with self.lock:
            if self.session is None:
                self.session = self.engine.new_session()
                self.vectors = Vectors(self.session)
            return self.session

    @property
    def busy(self) -> bool:
        """Whether work is going on for this visitor."""
        return self.reading or self.answering or self.experimenting

    def start_over(self) -> None:
        """Let go of memory and conversation; documents stay, and wait to be read anew."""
        self.stop_reading.set()
        self.stop_answering.set()
        self.stop_lab.set()
        with self.lock:
            self.session, self.vectors, self.exchanges, self.shown, self.retries = None, None, [], None, 0
            for item in self.library:
                item.start_over()

    def close(self) -> None:
        """Stop everything at the next step and let go of documents and memory."""
        self.closed = True
        self.stop_reading.set()
        self.stop_answering.set()
        self.stop_lab.set()
        with self.lock:
            self.session, self.vectors, self.library, self.exchanges = None, None, Library(), []


class Visits:
    """All visitors, by key.

    Args:
        settings: how many, and for how long without a click. engine: what they share.
        clock: seconds; tests give theirs.
    """

    def __init__(self, settings: Settings, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._idle = settings.sessions, 60.0 * settings.session_minutes
        self._engine, self._clock = engine, clock
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._visits)

    def get(self, key: str) -> Visit:
        """Return the visitor with this key, a new one if there is none.

        Raises:
            MemLongError: when there are as many as allowed, and none of them has been idle for long enough.
        """
        with self._lock:
            now = self._clock()
            visit = self._visits.get(key)
            if visit is None:
                self._sweep(now)
                if len(self._visits) >= self._most:
                    raise MemLongError(
                        f"{plural(self._most, 'visitor')} are here already",
                        f"At most {self._most} at a time",
                        "Try again in some minutes",
                    )
                visit = self._visits[key] = Visit(key, self._engine)
            visit.seen = now
            return visit

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

    def _sweep(self, now: float) -> None:
        """Free visitors who left their page alone for too long; work that goes on counts as being there."""
        for key, visit in list(self._visits.items()):
            if not visit.busy and now - visit.seen > self._idle:
                del self._visits[key]
                visit.close()
