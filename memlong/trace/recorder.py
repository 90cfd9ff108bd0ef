"""Collects the events of one session.

One thread writes, others may read: events are only ever appended, and never change once they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from memlong.errors import PersistError
from memlong.trace.events import Event, LayerMass, Retrieved, TokenGenerated, from_dict

E = TypeVar("E", bound=Event)
Listener = Callable[[Event], object]


class Recorder:
    """A growing list of events; the place in it is an event's step.

    Args:
        events: what happened before, with steps 0, 1, 2 ...

    Raises:
        PersistError: when the steps are others.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events = list(events)
        self._listeners: tuple[Listener, ...] = ()
        for step, event in enumerate(self._events):
            if event.step != step:
                raise PersistError(
                    f"Event {step} of a trace says that it is step {event.step}",
                    "Steps count 0, 1, 2 ...",
                    "Use a trace as it was saved, from its beginning",
                )

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    @property
    def step(self) -> int:
        """The step that the next event will have."""
        return len(self._events)

    @property
    def events(self) -> list[Event]:
        """All events so far, as a copy."""
        return self._events[:]

    def append(self, event: E) -> E:
        """Give a new event its step, keep it, tell the listeners, and return it.

        Errors of listeners are the listeners' own: they reach the caller, and the event is kept.

        Raises:
            PersistError: when the event has a step already, so belongs to a trace.
        """
        if event.step != -1:
            raise PersistError(f"{event.kind} has step {event.step} already", "Events that are new", "Make a new event")
        # Nobody else has seen the event yet, and a copy would cost ten times as much.
        object.__setattr__(event, "step", len(self._events))
        self._events.append(event)
        for listener in self._listeners:
            listener(event)
        return event

    def since(self, step: int) -> list[Event]:
        """Return the events from this step on; a reader asks with the step it has not seen yet."""
        return self._events[max(0, step) :]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every event from now on, in the writer's thread; call the result to stop."""
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return unsubscribe

    def filter(
        self,
        kind: type[Event] | str | tuple[type[Event] | str, ...] | None = None,
        doc_id: int | None = None,
        chunk_id: int | None = None,
        answer_id: int | None = None,
    ) -> list[Event]:
        """Return the events that meet every condition given.

        Args:
            kind: one class or name, or several. doc_id, answer_id: what the event says of itself.
            chunk_id: a chunk that the event is about, found or looked at.
        """
        kinds = kind if isinstance(kind, tuple) else () if kind is None else (kind,)
        names = {each if isinstance(each, str) else each.__name__ for each in kinds}
        return [
            event
            for event in self._events
            if (kind is None or event.kind in names)
            and (doc_id is None or getattr(event, "doc_id", None) == doc_id)
            and (answer_id is None or getattr(event, "answer_id", None) == answer_id)
            and (chunk_id is None or chunk_id in chunks_of(event))
        ]

    def to_jsonl(self) -> bytes:
        """Return all events as lines of JSON."""
        return b"".join(json.dumps(event.to_dict()).encode() + b"\n" for event in self.events)

    @classmethod
    def from_jsonl(cls, content: bytes) -> Recorder:
        """Return a recorder that goes on where the lines end.

        Raises:
            PersistError: naming the first line that is not an event.
        """
        events = []
        for number, line in enumerate(content.splitlines(), 1):
            try:
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise PersistError(f"{values!r}", "An event, a JSON object", "Use a saved trace")
                events.append(from_dict(values))
            except (ValueError, RecursionError) as error:
                reason = error.given if isinstance(error, PersistError) else str(error)
                raise PersistError(
                    f"Line {number} of a trace is no event: {reason}",
                    "One event a line, as a recorder writes them",
                    "Use a trace as it was saved",
                ) from error
        return cls(events)

    def save_jsonl(self, path: Path | str) -> None:
        """Write all events to a file. Raises PersistError when it cannot be written."""
        try:
            Path(path).write_bytes(self.to_jsonl())
        except OSError as error:
            raise PersistError(f"{path}: {error.strerror}", "A file that can be written", "Choose another") from error

    @classmethod
    def load_jsonl(cls, path: Path | str) -> Recorder:
        """Read a file that :meth:`save_jsonl` wrote.

        Raises:
            PersistError: when it cannot be read, or as for :meth:`from_jsonl`.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise PersistError(f"{path}: {error.strerror}", "A trace, as JSONL", "Check the path") from error
        return cls.from_jsonl(content)


def chunks_of(event: Event) -> tuple[int, ...]:
    """Return the ids of the chunks that an event is about, that it found, or that it looked at."""
    if isinstance(event, Retrieved):
        return tuple(hit.chunk_id for hit in event.hits)
    if isinstance(event, TokenGenerated | LayerMass):
        return tuple(chunk_id for chunk_id, _ in event.chunk_mass or ())
    chunk_id = getattr(event, "chunk_id", None)
    return () if chunk_id is None else (chunk_id,)
