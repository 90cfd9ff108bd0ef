"""An app around a tiny random model and the exact retriever, without a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app import asking, reading
from app.context import App
from app.sessions import Visit
from app.settings import Settings
from memlong.config import AskOptions

QUESTION = "Where did the brass lantern stand?"
FACT = "The brass lantern of Ottoline Varga stood in the cellar of the customs house."


@pytest.fixture
def long_text() -> str:
    """Some 3,000 tokens of log book, with one fact in the middle."""
    days = [
        f"On day {day} the harbour master wrote of wind {day * 7 % 13} and of ships from port {day}."
        for day in range(60)
    ]
    return " ".join([*days[:30], FACT, *days[30:]])


@pytest.fixture
def loader(tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> Callable[..., tuple[Any, Any]]:
    """Return what stands in for loading weights."""

    def load(settings: Settings, tell: Callable[[float, str], None]) -> tuple[Any, Any]:
        from memlong.config import MemoryConfig
        from memlong.model.wrapper import MemoryModel
        from memlong.retriever.hashing import HashingRetriever

        config = MemoryConfig(chunk_tokens=32, window_tokens=64, top_k=3, read_batch_tokens=128, store_dtype="float32")
        model = MemoryModel(tiny_llama(layers=4, hidden=32), tiny_tokenizer, config)
        tell(0.5, "Half way")
        return model, HashingRetriever()

    return load


@pytest.fixture
def make_app(loader: Callable[..., Any]) -> Iterator[Callable[..., App]]:
    """Return ``make_app(**settings)``: an app whose model is loaded."""
    made: list[App] = []

    def build(**settings: Any) -> App:
        app = App.make(Settings(**{"capacity": 32 * 400, **settings}), loader)
        assert app.engine.start().wait(), app.engine.state.error
        made.append(app)
        return app

    yield build
    for app in made:
        app.visits.close_all()


@pytest.fixture
def visit(make_app: Callable[..., App]) -> Visit:
    """Return a visitor of such an app."""
    return make_app().visits.get("somebody")


@pytest.fixture
def read(visit: Visit, long_text: str) -> Visit:
    """A visitor who has read a log book and asked one question."""
    return _read_and_asked(visit, long_text, "Log <b>book</b>")


@pytest.fixture
def crowded(make_app: Callable[..., App], long_text: str) -> Visit:
    """A visitor whose bank was too small for what they read; then they asked one question."""
    return _read_and_asked(make_app(capacity=32 * 12).visits.get("somebody"), long_text, "Log book")


def _read_and_asked(visit: Visit, text: str, title: str) -> Visit:
    reading.add_text(visit, text, title, reading.limits_of(visit.engine.settings))
    for _ in reading.read_all(visit):
        pass
    for _ in asking.ask(visit, QUESTION, AskOptions(max_tokens=3)):
        pass
    return visit
