"""The app's API as a program sees it: six names with types, nothing of the page's own, and a session of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.app.test_browser import address, log_book, tiny_folder

__all__ = ["address", "tiny_folder"]
pytestmark = pytest.mark.browser  # it starts the app as a person does
client = pytest.importorskip("gradio_client")

NAMES = {"/upload", "/ask", "/memory_state", "/trace", "/compare", "/policies"}


def test_names_are_documented_and_typed_and_nothing_else_is_offered(address: str) -> None:
    offered = client.Client(address, verbose=False).view_api(return_format="dict")
    named = offered["named_endpoints"]
    assert set(named) == NAMES
    assert offered["unnamed_endpoints"] == {}
    for name, about in named.items():
        assert len(about["description"]) > 20, name
        for parameter in about["parameters"]:
            assert parameter["parameter_name"]
            assert parameter["python_type"]["type"] not in ("", "Any"), (name, parameter)
        for value in about["returns"]:
            assert value["python_type"]["type"].startswith("list" if name == "/trace" else "dict"), (name, value)
        assert len(about["returns"]) == 1, name
    asked = {each["parameter_name"]: each for each in named["/ask"]["parameters"]}
    assert asked["max_tokens"]["parameter_default"] == 64


def test_a_program_reads_asks_and_looks(address: str, tmp_path: Path) -> None:
    path = tmp_path / "log-book.txt"
    path.write_text(log_book(40))  # it fits: what is asked for must not be evicted
    mine, other = client.Client(address, verbose=False), client.Client(address, verbose=False)

    def call(name: str, *given: Any, by: Any = mine) -> Any:
        return by.predict(*given, api_name=name)

    report = call("/upload", client.handle_file(str(path)))
    assert report["status"] == "done"
    answer = call("/ask", "Where did the brass lantern of Ottoline Varga stand?", "memory", 2, 4)
    ids = [chunk["chunk_id"] for chunk in answer["retrieved"]]
    assert len(ids) == 2
    assert any("Ottoline" in chunk["text"] for chunk in answer["retrieved"])
    state = call("/memory_state")
    assert set(ids) <= {chunk["chunk_id"] for chunk in state["chunks"]}
    assert len(state["chunks"]) == report["chunks_kept"]
    kinds = {event["kind"] for event in call("/trace", 0)}
    assert {"ChunkWritten", "Retrieved", "LayerMass", "AnswerFinished"} <= kinds
    assert set(call("/compare", "Where?", 2, 2)) == {"memory", "passages", "both", "nothing"}
    assert call("/policies")["replays"]
    assert call("/memory_state", by=other)["chunks"] == [], "every client has a session of its own"
