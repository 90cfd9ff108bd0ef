"""Visitors: limits, idleness, and that closing frees everything."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import asking, reading
from app.build import as_it_was
from app.context import App
from app.documents import Limits
from app.engine import Engine
from app.exports import conversation_file, document_archive
from app.sessions import Exchange, Visits
from app.settings import Settings
from app.tabs.ask import messages, picture
from memlong.config import AskOptions
from memlong.errors import BankError, MemLongError, ModelError


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


def test_closing_takes_away_the_files_that_were_made_for_saving(make_app: Callable[..., App], long_text: str) -> None:
    visits = make_app().visits
    visit, other = visits.get("a"), visits.get("b")
    reading.add_text(visit, long_text, "Log", Limits())
    archive, page = document_archive(visit, 0), conversation_file(visit, "html")
    kept = conversation_file(other)
    assert archive.is_file() and page.is_file()
    visits.close("a")
    assert not archive.parents[1].exists() and not page.exists() and kept.is_file()
    visits.close_all()
    assert not kept.parents[1].exists()


def test_closing_leaves_nothing_of_a_session_behind(make_app: Callable[..., App], long_text: str) -> None:
    app = make_app()
    visit = app.visits.get("a")
    reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    assert visit.session is not None
    gone = weakref.ref(visit.session)
    app.visits.close("a")
    assert gone() is None


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
    assert not list(visit.shelf)
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


TICKET, OTHER = "a1" * 24, "b2" * 24


def test_a_page_loaded_again_finds_what_it_had(make_app: Callable[..., App], long_text: str) -> None:
    visits = make_app().visits
    visit = visits.claim("first load", TICKET)
    reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    visits.leave("first load")
    assert visits.claim("second load", TICKET) is visit
    assert visits.get("second load") is visit
    assert visit.left is None
    assert len(visit.memory().bank) > 0
    visits.leave("first load")  # said late, after the new page came
    assert not visit.closed
    assert len(visits) == 1


def test_nobody_else_finds_it(make_app: Callable[..., App]) -> None:
    visits = make_app().visits
    mine = visits.claim("mine", TICKET)
    reading.add_text(mine, "A diary.", "Diary", Limits())
    visits.leave("mine")
    for key, ticket in (("b", OTHER), ("c", ""), ("d", "a1"), ("e", TICKET[:-1]), ("f", TICKET.upper())):
        assert visits.claim(key, ticket) is not mine
        assert visits.get(key).blank
    assert not visits.get("d").ticket, "what is too short to be a secret is none"


def test_a_page_with_work_of_its_own_keeps_it(make_app: Callable[..., App]) -> None:
    visits = make_app().visits
    first, second = visits.claim("first", TICKET), visits.claim("second", OTHER)
    for visit in (first, second):
        reading.add_text(visit, "A diary.", "Diary", Limits())
    assert visits.claim("second", TICKET) is second
    assert visits.claim("third", TICKET) is first
    assert visits.get("first") is not first, "it is never in two pages at a time"


def test_a_closed_page_is_freed_after_its_time_and_makes_room_before() -> None:
    now = [0.0]
    visits = Visits(Settings(sessions=2, closed_minutes=5), Engine(Settings()), clock=lambda: now[0])
    closed, here = visits.claim("a", TICKET), visits.claim("b", OTHER)
    for visit in (closed, here):
        visit.exchanges.append(Exchange("Who?"))
    visits.leave("a")
    now[0] = 299.0
    visits.sweep()
    assert not closed.closed
    now[0] = 301.0
    visits.sweep()
    assert closed.closed
    assert not here.closed
    visits.leave("b")
    assert visits.get("c").key == "c"
    assert not here.closed, "there is room for two"
    assert visits.get("d").key == "d"
    assert here.closed, "who is here comes before who has gone"


def test_memory_of_closed_pages_is_given_to_who_needs_it(make_app: Callable[..., App], monkeypatch: Any) -> None:
    app = make_app()
    gone, here = app.visits.claim("gone", TICKET), app.visits.get("here")
    gone.memory()
    app.visits.leave("gone")
    make, tries = app.engine.new_session, []

    def scarce() -> Any:
        tries.append(gone.closed)
        if not gone.closed:
            raise BankError("No room", "A smaller bank", "Wait")
        return make()

    monkeypatch.setattr(app.engine, "new_session", scarce)
    assert here.memory() is not None
    assert tries == [False, True]


def test_reading_goes_on_when_its_page_is_back(make_app: Callable[..., App], long_text: str) -> None:
    visits = make_app().visits
    visit = visits.claim("a", TICKET)
    item = reading.add_text(visit, long_text, "Log", Limits())
    other = reading.add_text(visit, long_text[:900], "Other", Limits())
    steps = reading.read_all(visit, show_every=0, only=item)
    for _ in range(4):
        next(steps)
    steps.close()  # as the page goes
    assert item.state == "stopped"
    assert visit.interrupted
    list(reading.go_on(visit, show_every=0.01))
    assert item.state == "done"
    assert not visit.interrupted
    assert list(reading.go_on(visit)) == []
    assert other.state == "waiting", "nobody asked for it"


def test_reading_that_was_stopped_stays_so(make_app: Callable[..., App], long_text: str) -> None:
    visit = make_app().visits.claim("a", TICKET)
    item = reading.add_text(visit, long_text, "Log", Limits())
    steps = reading.read_all(visit, show_every=0)
    for _ in range(4):
        next(steps)
    reading.stop(visit)
    steps.close()
    list(reading.go_on(visit, show_every=0.01))
    assert item.state == "stopped"


def test_a_file_whose_page_closed_says_so(make_app: Callable[..., App], tmp_path: Path) -> None:
    visit = make_app().visits.claim("a", TICKET)
    path = tmp_path / "a.txt"
    path.write_text("A diary.")
    steps = reading.add_files(visit, [(path, "a.txt"), (path, "b.txt")], Limits())
    next(steps)
    steps.close()
    assert [item.state for item in visit.shelf] == ["failed", "failed"]
    assert "Add it again" in str(next(iter(visit.shelf)).error)


def test_the_page_shows_again_what_was_there(make_app: Callable[..., App], long_text: str) -> None:
    app = make_app()
    visit = app.visits.claim("a", TICKET)
    blank = as_it_was(visit)
    reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    reading.set_bank(visit, 32 * 50, "fifo")
    *_, exchange = asking.ask(visit, "Where?", AskOptions(max_tokens=2, top_k=2))
    again = as_it_was(visit)
    assert len(again) == len(blank)
    assert again[5:7] == [32 * 50, "fifo"]
    assert blank[5:7] == [app.settings.capacity, app.settings.policy]
    assert "Log" in again[0]
    assert exchange.question in str(again[7])


def test_an_answer_that_its_page_left_says_so(make_app: Callable[..., App], long_text: str) -> None:
    visit = make_app().visits.claim("a", TICKET)
    reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    steps = asking.ask(visit, "Where?", AskOptions(max_tokens=8, top_k=2), show_every=0)
    next(steps)
    steps.close()
    assert not visit.answering
    assert "closed before" in str(messages(visit)[1])
    assert "ask again" in picture(visit)[1]
