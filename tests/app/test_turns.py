"""Turns at the model: one at a time, questions first, nobody forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

import app.turns
from app.turns import Kind, Turns


def queue_up(turns: Turns, kinds: list[Kind], note: Callable[[str], None]) -> list[threading.Thread]:
    """Start one thread a kind, each waiting for its turn before the next one comes."""
    threads = []
    for number, kind in enumerate(kinds):

        def wait(name: str = f"{kind}{number}", kind: Kind = kind) -> None:
            with turns.turn(kind):
                note(name)

        thread = threading.Thread(target=wait)
        thread.start()
        threads.append(thread)
        while turns.waiting < number + 1:
            threading.Event().wait(0.001)
    return threads


def order(kinds: list[Kind], most: int = 32) -> list[str]:
    turns, order = Turns(most), []
    with turns.turn("reading"):
        threads = queue_up(turns, kinds, order.append)
    for thread in threads:
        thread.join()
    return order


def test_questions_come_before_reading_and_each_in_order() -> None:
    assert order(["reading", "question", "reading", "question"]) == ["question1", "question3", "reading0", "reading2"]


def test_reading_gets_a_turn_after_many_questions() -> None:
    kinds: list[Kind] = ["reading", "question", "question", "question"]
    assert order(kinds, most=2) == ["question1", "question2", "reading0", "question3"]


def test_steps_take_a_turn_each_and_closing_closes_them() -> None:
    turns, closed, inside = Turns(), [], []

    def count() -> Iterator[int]:
        try:
            for number in range(5):
                inside.append(turns._busy)
                yield number
        finally:
            closed.append(turns._busy)

    steps = turns.steps(count(), "reading")
    assert next(steps) == 0
    assert not turns._busy, "between two steps others get a turn"
    assert next(steps) == 1
    steps.close()
    assert inside == [True, True]
    assert closed == [True]


def test_a_step_that_fails_gives_the_turn_back() -> None:
    turns = Turns()

    def fail() -> Iterator[int]:
        raise ValueError("broken")
        yield 0

    with pytest.raises(ValueError, match="broken"):
        list(turns.steps(fail(), "question"))
    with turns.turn("reading"):
        assert turns.waiting == 0


def test_two_generators_interleave() -> None:
    turns, seen = Turns(), []

    def work(name: str) -> None:
        for _ in turns.steps(iter(range(50)), "question"):
            seen.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == ["a"] * 50 + ["b"] * 50


def written_beside_reading(most: int, pause: Callable[[], None]) -> list[str]:
    """Write an answer of four tokens while somebody reads four batches; return what came in which order."""
    turns, done = Turns(most), []

    def work(name: str) -> Iterator[None]:
        for _ in range(4):
            done.append(name)
            yield

    answer = turns.steps(work("token"), "question")
    next(answer)
    reader = threading.Thread(target=lambda: list(turns.steps(work("batch"), "reading")))
    reader.start()
    while not turns.waiting and reader.is_alive():
        threading.Event().wait(0.001)
    for _ in answer:
        pause()
    reader.join()
    return done


def test_reading_does_not_slip_in_between_two_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.turns, "PATIENCE", 60.0)
    done = written_beside_reading(32, lambda: threading.Event().wait(0.01) and None)
    assert done == ["token"] * 4 + ["batch"] * 4


def test_reading_gets_its_turn_after_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.turns, "PATIENCE", 60.0)
    done = written_beside_reading(2, lambda: threading.Event().wait(0.2) and None)
    assert done[:3] == ["token", "token", "batch"]


def test_an_answer_that_nobody_goes_on_with_does_not_stop_reading() -> None:
    turns = Turns()
    answer = turns.steps(iter(range(3)), "question")
    next(answer)
    assert list(turns.steps(iter(range(3)), "reading")) == [0, 1, 2]
    answer.close()
