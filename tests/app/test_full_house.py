"""A page that comes when there are as many visitors as allowed says so, and is let in once somebody leaves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from app.build import build
from app.context import App


def test_a_page_too_many_says_so_and_tries_again(make_app: Callable[..., App]) -> None:
    app = make_app(sessions=1)
    page = build(app)
    tick = next(
        fn.fn for fn in page.fns.values() if fn.name == "tick" and getattr(fn.outputs[0], "elem_id", None) == "engine"
    )
    first, second = SimpleNamespace(session_hash="first"), SimpleNamespace(session_hash="second")
    assert "ml-dot" in tick(first)[0]
    said, _, timer = tick(second)
    assert "1 visitor" in said
    assert "Try again" in said
    assert timer == {"__type__": "update"}, "the timer goes on"
    app.visits.close("first")
    said, _, timer = tick(second)
    assert "ml-dot" in said
    assert timer.active is False
