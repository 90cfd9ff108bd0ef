"""Loading in the background: progress, success, failure, and another try."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from app.engine import Engine
from app.settings import Settings
from app.tabs.pieces import engine_line
from memlong.errors import ModelError


def test_progress_is_shown_until_ready(loader: Callable[..., Any]) -> None:
    go_on, told = threading.Event(), threading.Event()

    def slow(settings: Settings, tell: Callable[[float, str], None]) -> Any:
        tell(0.4, "Undoing the quantisation")
        told.set()
        go_on.wait()
        return loader(settings, tell)

    engine = Engine(Settings(capacity=4096), slow).start()
    told.wait()
    assert "Loading model 40%" in engine_line(engine)
    with pytest.raises(ModelError, match="40%"):
        engine.require_ready()
    go_on.set()
    assert engine.wait()
    assert engine.tokens_per_second
    assert "retriever hashing" in engine_line(engine)


def test_failure_is_said_and_can_be_mended(loader: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    tries = []

    def second_time(settings: Settings, tell: Callable[[float, str], None]) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ModelError("No weights here", "A package or a hub", "Run 'make setup'")
        return loader(settings, tell)

    engine = Engine(Settings(capacity=4096), second_time).start()
    assert not engine.wait()
    assert "make setup" in engine_line(engine)
    assert capsys.readouterr().err == "No weights here. A package or a hub. Run 'make setup'.\n"
    with pytest.raises(ModelError, match="No weights"):
        engine.require_ready()
    assert engine.start().wait()


@pytest.mark.parametrize(
    ("capacity", "said"),
    [(10**12, "A bank of 1,000,000,000,000 tokens needs"), (10, "capacity_tokens=10 with chunk_tokens=32")],
)
def test_a_capacity_that_no_visitor_could_have_is_told_at_the_start(
    loader: Callable[..., Any], capacity: int, said: str
) -> None:
    engine = Engine(Settings(capacity=capacity), loader).start()
    assert not engine.wait() and engine.model is None
    assert said in engine_line(engine)


def test_surprises_become_messages(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(settings: Settings, tell: Callable[[float, str], None]) -> Any:
        raise RuntimeError("<b>out of luck</b>")

    engine = Engine(Settings(), broken).start()
    assert not engine.wait()
    assert engine.state.error is not None
    assert "&lt;b&gt;out of luck" in engine_line(engine)
    assert "RuntimeError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("auto", {"device": "cpu", "data_dir": None}),
        ("hashing", {}),
        ("sentence:a/b", {"model": "a/b", "device": "cpu"}),
    ],
)
def test_retrievers_are_made_on_the_device_of_the_settings(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import memlong.retriever
    from app.engine import load_retriever

    made: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(memlong.retriever, "make_retriever", lambda kind, **given: made.append((kind, given)))
    load_retriever(Settings(retriever=name, device="cpu"))
    assert made == [(name.partition(":")[0], options)]
