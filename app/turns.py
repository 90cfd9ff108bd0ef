"""Whose turn it is at the model: one step at a time, questions before reading, first come first served.

A step is one generated token or one batch of windows. Between two steps everybody else gets a chance, so a
long read delays another visitor's question by one batch at most.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

T = TypeVar("T")
Kind = Literal["question", "reading"]

QUESTIONS_IN_A_ROW = 32  # then one reading step, or a busy room would never finish a book
PATIENCE = 0.25  # seconds that reading waits for an answer's next token; a page may have gone away in the middle


class Turns:
    """A lock with two queues. Not reentrant: a step must not ask for another turn."""

    def __init__(self, questions_in_a_row: int = QUESTIONS_IN_A_ROW) -> None:
        self._waiting: dict[str, deque[object]] = {"question": deque(), "reading": deque()}
        self._condition = threading.Condition()
        self._busy = False
        self._row, self._most = 0, questions_in_a_row
        self._answers, self._last_token = 0, 0.0  # answers being written, and when one got its last token

    @contextmanager
    def turn(self, kind: Kind = "question") -> Iterator[None]:
        """Wait for a turn and hold it while the block runs."""
        ticket = object()
        with self._condition:
            self._waiting[kind].append(ticket)
            try:
                while self._busy or self._next() is not ticket:
                    self._condition.wait(PATIENCE if kind == "reading" else None)
            finally:
                self._waiting[kind].remove(ticket)
            self._busy = True
            self._row = self._row + 1 if kind == "question" else 0
        try:
            yield
        finally:
            with self._condition:
                self._busy = False
                if kind == "question":
                    self._last_token = time.monotonic()
                self._condition.notify_all()

    def steps(self, steps: Iterator[T], kind: Kind) -> Generator[T, None, None]:
        """Yield what ``steps`` yields, each step in a turn of its own; closing this closes ``steps``."""
        with self._condition:
            self._answers += kind == "question"
        try:
            while True:
                with self.turn(kind):
                    try:
                        value = next(steps)
                    except StopIteration:
                        return
                yield value
        finally:
            with self._condition:
                self._answers -= kind == "question"
                self._condition.notify_all()
            close = getattr(steps, "close", None)
            if close is not None:
                with self.turn(kind):
                    close()

    @property
    def waiting(self) -> int:
        """How many wait for a turn now."""
        with self._condition:
            return sum(len(queue) for queue in self._waiting.values())

    def _next(self) -> object | None:
        questions, readings = self._waiting["question"], self._waiting["reading"]
        if questions and not (readings and self._row >= self._most):
            return questions[0]
        # Between two tokens nobody waits for a turn, and reading would slip in before every one of them.
        more = self._answers and self._row < self._most and time.monotonic() - self._last_token < PATIENCE
        return readings[0] if readings and not more else None
