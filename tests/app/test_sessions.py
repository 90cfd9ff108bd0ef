"""Visitors: limits, idleness, and that closing frees everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app import reading
from app.context import App
from app.documents import Limits
from app.engine import Engine
from app.sessions import Visits
from app.settings import Settings
from memlong.errors import MemLongError, ModelError


def test_visitors_are_told_apart_and_kept() -> None:
    visits = Visits(Settings(sessions=2), Engine(Settings()))
    first = visits.get("a")
    assert visits.get("a") is first
    assert visits.get("b") is not first
    assert len(visits) == 2


def test_one_too_many_is_refused_until_somebody_is_idle() -> None:
    now = [0.0]
    visits = Visits(Settings(sessions=1, session_minutes=10), Engine(Settings()), clock=lambda: now[0])
    first = visits.get("a")
    with pytest.raises(MemLongError, match="At most 1"):
        visits.get("b")
    now[0] = 601.0
    first.reading = True
    with pytest.raises(MemLongError):
        visits.get("b")
    first.reading = False
    assert visits.get("b").key == "b"
    assert first.closed


def test_closing_frees_memory_and_stops_work(make_app: Callable[..., App], long_text: str) -> None:
    app = make_app()
    visit = app.visits.get("a")
    reading.add_text(visit, long_text, "Log", Limits())
    steps = reading.read_all(visit, show_every=0)
    next(steps)
    next(steps)
    assert visit.session is not None
    app.visits.close("a")
    assert len(app.visits) == 0
    assert visit.session is None
    assert not list(visit.library)
    assert all(item is None or item.state != "done" for item in steps), "it ends without reading the rest"
    app.visits.close("a")


def test_two_visitors_share_the_model_and_nothing_else(make_app: Callable[..., App], long_text: str) -> None:
    app = make_app()
    one, other = app.visits.get("a"), app.visits.get("b")
    reading.add_text(one, long_text, "Log", Limits())
    list(reading.read_all(one))
    assert len(one.memory().bank) > 0
    assert len(other.memory().bank) == 0
    assert one.memory().model.model is other.memory().model.model


def test_no_memory_while_loading() -> None:
    visits = Visits(Settings(), Engine(Settings()))
    with pytest.raises(ModelError, match="loading"):
        visits.get("a").memory()
