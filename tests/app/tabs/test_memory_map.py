"""What the map is sent: small, complete, and free of markup."""

from __future__ import annotations

import base64
import json
import time

import numpy as np
import pytest

from app.rows.cells import COLOURS, map_cells
from app.rows.timeline import Timeline, timeline_of
from app.tabs.memory_map import map_value, memory_map, pack
from memlong.trace import events as e
from tests.app.traces import full, made


def unpack(value: dict, name: str, kind: str) -> list[int]:
    return np.frombuffer(base64.b64decode(value[name]), kind).tolist()


def test_packed_cells_come_out_as_they_were() -> None:
    timeline = timeline_of(full().recorder)
    cells = map_cells(timeline)
    value = map_value(timeline, selected=3)
    assert value["n"] == len(cells)
    for name, kind, expected in (
        ("state", "<u1", cells.states), ("level", "<u1", cells.levels), ("count", "<u2", cells.counts),
        ("doc", "<u2", cells.docs), ("index", "<u4", cells.indices),
    ):  # fmt: skip
        assert unpack(value, name, kind) == expected.tolist()
    assert value["selected"] == 3
    assert value["recent"] == list(cells.recent)
    assert json.loads(json.dumps(value)) is not None


def test_ids_are_sent_only_when_they_do_not_count_up() -> None:
    session = made()
    session.read(6, "A")
    assert map_value(timeline_of(session.recorder))["ids"] == ""
    assert unpack(map_value(timeline_of(session.recorder), arrangement="bank"), "ids", "<i4") == []
    session.recorder.append(e.Deleted(2))
    value = map_value(timeline_of(session.recorder), arrangement="bank")
    assert unpack(value, "ids", "<i4")[:5] == [0, 1, 3, 4, 5]


def test_four_thousand_chunks_are_small_and_quick() -> None:
    session = full(4_000, 1_500)
    timeline = timeline_of(session.recorder)
    map_value(timeline)
    started = time.process_time()
    value = map_value(timeline)
    assert time.process_time() - started < 2  # measured: 0.02 s; a look at every event would take ten times that
    assert len(json.dumps(value)) < 20 * value["n"]


@pytest.mark.parametrize("colour", list(COLOURS))
def test_every_colour_explains_itself(colour: str) -> None:
    value = map_value(timeline_of(full().recorder), colour=colour)
    assert value["how"].startswith("One cell is one chunk")
    assert value["colour_words"] and value["high_words"]
    assert "chunks in memory" in value["summary"]


def test_an_empty_map_says_what_to_do() -> None:
    value = map_value(Timeline())
    assert value["n"] == 0
    assert "Read tab" in value["empty"]


def test_titles_are_plain_text_and_the_template_holds_no_value() -> None:
    value = map_value(timeline_of(full().recorder))
    assert value["documents"][0] == [0, "The ledger <b>of</b> ships"]
    # Only textContent ever shows them: nothing of the value is in the template, and no innerHTML in the script.
    component = memory_map("m")
    assert "${" not in component.html_template
    assert "{{" not in component.html_template
    assert "innerHTML" not in component.js_on_load


def test_no_cells_pack_into_nothing() -> None:
    assert pack(map_cells(Timeline()), {})["n"] == 0
