"""Loading another model in place: the old one serves meanwhile and after a failure; memories are emptied, not more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from app import asking, reading
from app.context import App
from app.documents import Limits
from app.sessions import Visit
from app.settings import Settings
from app.setup import Setup
from app.switching import refuse_changes, would_be_lost
from app.tabs.pieces import bank_line
from memlong.config import AskOptions
from memlong.errors import MemLongError, ModelError


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    return make_app()


def read_and_ask(visit: Visit, text: str) -> None:
    reading.add_text(visit, text, "Log", Limits())
    list(reading.read_all(visit))
    list(asking.ask(visit, "Where was the lantern?", AskOptions(max_tokens=4)))


def test_another_model_serves_and_documents_wait_to_be_read_anew(app: App, long_text: str) -> None:
    visit = app.visits.get("a")
    read_and_ask(visit, long_text)
    old = app.engine.model
    assert "chunks in memory and 1 question" in would_be_lost(app.visits)
    app.switch.start(Setup(model="other", capacity=32 * 50, policy="lru"))
    assert app.switch.wait()
    assert app.engine.model is not old
    assert (app.engine.settings.model, app.engine.settings.capacity) == ("other", 1600)
    assert would_be_lost(app.visits) == ""
    assert [item.state for item in visit.shelf] == ["waiting"]
    assert (visit.session, visit.exchanges) == (None, [])
    list(reading.read_all(visit))
    assert [item.state for item in visit.shelf] == ["done"]
    assert visit.memory().config.policy == "lru"
    assert visit.memory().model.model is app.engine.model.model


def test_the_old_model_serves_on_when_the_new_one_fails(app: App, long_text: str) -> None:
    visit = app.visits.get("a")
    read_and_ask(visit, long_text)
    old, loader = app.engine.model, app.engine._loader

    def broken(settings: Settings, tell: Callable[[float, str], None]) -> Any:
        raise ModelError("No such model", "A model", "Check the name")

    app.engine._loader = broken
    app.switch.start(Setup(model="gone"))
    assert not app.switch.wait()
    assert app.switch.state is not None
    assert "No such model" in str(app.switch.state.error)
    assert app.engine.model is old
    assert app.engine.settings.model == "bundled"
    assert app.engine.state.ready
    assert len(visit.memory().bank) > 0
    app.engine._loader = loader
    app.switch.start(Setup(model="other"))
    assert app.switch.wait()


def test_reading_goes_on_while_loading_and_stops_when_the_new_model_is_there(app: App, long_text: str) -> None:
    visit, go_on, loader = app.visits.get("a"), threading.Event(), app.engine._loader

    def slow(settings: Settings, tell: Callable[[float, str], None]) -> Any:
        go_on.wait()
        return loader(settings, tell)

    app.engine._loader = slow
    reading.add_text(visit, long_text * 4, "Log", Limits())
    steps = reading.read_all(visit, show_every=0)
    app.switch.start(Setup())
    assert app.switch.loading
    with pytest.raises(ModelError, match="already"):
        app.switch.start(Setup())
    for _ in range(4):
        next(steps)
    assert visit.session is not None
    before = visit.session.chunks_read
    assert before > 0
    go_on.set()
    list(steps)
    assert app.switch.wait()
    assert [item.state for item in visit.shelf] == ["waiting"]
    assert visit.session is None


def test_a_model_that_cannot_answer_never_serves(app: App) -> None:
    loader, old = app.engine._loader, app.engine.model

    def no_maps(settings: Settings, tell: Callable[[float, str], None]) -> Any:
        model, retriever = loader(settings, tell)
        return model.with_config(model.config.replace(preset="projected")), retriever

    app.engine._loader = no_maps
    app.switch.start(Setup())
    assert not app.switch.wait()
    assert "maps" in str(app.switch.state and app.switch.state.error)
    assert app.engine.model is old


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, True), ({"host": "0.0.0.0"}, False), ({"share": True}, False), ({"root_path": "/x"}, False),
        ({"allow_changes": "off"}, False), ({"host": "0.0.0.0", "allow_changes": "on"}, True),
    ],
)  # fmt: skip
def test_only_this_machine_may_change_the_model_unless_said_otherwise(settings: dict[str, Any], allowed: bool) -> None:
    assert Settings(**settings).changes_allowed == allowed
    if allowed:
        refuse_changes(Settings(**settings))
    else:
        with pytest.raises(MemLongError, match="allow-changes"):
            refuse_changes(Settings(**settings))


def test_a_public_app_refuses(make_app: Callable[..., App]) -> None:
    app = make_app(host="0.0.0.0")
    with pytest.raises(MemLongError):
        app.switch.start(Setup())
    assert app.switch.state is None


def test_loading_can_be_stopped(app: App) -> None:
    told, go_on, loader, old = threading.Event(), threading.Event(), app.engine._loader, app.engine.model

    def slow(settings: Settings, tell: Callable[[float, str], None]) -> Any:
        told.set()
        go_on.wait()
        return loader(settings, tell)

    app.engine._loader = slow
    app.switch.start(Setup())
    told.wait()
    app.switch.stop()
    go_on.set()
    assert not app.switch.wait()
    assert app.switch.state is None
    assert not app.switch.loading
    assert app.engine.model is old
    app.switch.start(Setup())
    assert app.switch.wait(), "a stop is of one loading only"


def test_somebody_elses_page_is_told_that_its_memory_is_gone(app: App, long_text: str) -> None:
    mine, blank = app.visits.get("a"), app.visits.get("b")
    read_and_ask(mine, long_text)
    app.switch.start(Setup(model="other"))
    assert app.switch.wait()
    assert mine.stale and mine.emptied
    assert not blank.emptied, "nothing was taken from who had nothing"
    assert "Memory was emptied" in bank_line(mine)
    assert bank_line(blank) == bank_line(None)
    seen = mine.seen
    assert app.visits.peek("a") is mine and mine.seen == seen
    assert app.visits.peek("nobody") is None
    list(reading.read_all(mine))
    assert "Memory holds" in bank_line(mine)


def test_an_answer_that_runs_ends_before_the_model_changes(app: App, long_text: str) -> None:
    visit = app.visits.get("a")
    read_and_ask(visit, long_text)
    going = asking.ask(visit, "And where else?", AskOptions(max_tokens=400), show_every=0)
    for _ in range(3):
        next(going)
    app.switch.start(Setup(model="other"))
    *_, last = going  # it hears of the change at its next token
    assert app.switch.wait()
    assert last.answer is not None and last.answer.stop_reason == "cancelled"
    assert 0 < last.answer.n_tokens < 400
    assert visit.exchanges == []


def test_who_closed_their_page_loses_nothing_that_is_asked_about(app: App, long_text: str) -> None:
    visit = app.visits.claim("a", "a1" * 24)
    read_and_ask(visit, long_text)
    app.visits.leave("a")
    assert would_be_lost(app.visits) == ""
