"""What the map is sent: small, complete, and free of markup."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.looking import Look
from app.rows.cells import ARRANGEMENTS, COLOURS, EMPTY, Cells, map_cells
from app.rows.timeline import Timeline, timeline_of
from app.tabs import memory_map as memory_map_module
from app.tabs.map_changes import WHOLE, pack
from app.tabs.memory_map import map_update, map_value, memory_map
from app.theme import MEANINGS
from memlong.trace import events as e
from tests.app.traces import full, made


class Shown:
    """What a page's map shows: the script's part in Python."""

    def __init__(self) -> None:
        self.serial, self.missed = -1, 0

    def take(self, value: dict) -> None:
        if value["base"] not in (WHOLE, self.serial):
            self.missed += 1
            return
        self.serial = value["serial"]
        n = value["n"]
        at = np.arange(n) if value["base"] == WHOLE else np.array(unpack(value, "at", "<u4"), int)
        if value["base"] == WHOLE:
            self.states, self.counts, self.levels = (np.zeros(n, int) for _ in range(3))
            self.ids, self.docs, self.indices = np.arange(n), np.zeros(n, int), np.zeros(n, int)
            runs = np.array(unpack(value, "runs", "<i4"), int).reshape(-1, 3)
            places = [(doc, first + more) for doc, first, length in runs for more in range(length)]
            places = places or list(zip(unpack(value, "doc", "<u2"), unpack(value, "index", "<u4"), strict=True))
            self.docs, self.indices = np.array(places, int).reshape(-1, 2).T
        self.states[at], self.counts[at] = unpack(value, "state", "<u1"), unpack(value, "count", "<u2")
        for name, kind, own in (("ids", "<i4", self.ids), ("level", "<u1", self.levels)):
            if value[name]:
                own[at] = unpack(value, name, kind)

    def is_like(self, cells: Cells, levels: bool = False) -> bool:
        known = cells.states != EMPTY
        pairs = [
            (self.states, cells.states), (self.counts, cells.counts), (self.docs, cells.docs),
            (self.indices, cells.indices), (self.ids[known], cells.chunk_ids[known]),
        ]  # fmt: skip
        pairs += [(self.levels, cells.levels)] if levels else []
        return all(np.array_equal(here, there) for here, there in pairs)


def unpack(value: dict, name: str, kind: str) -> list[int]:
    return np.frombuffer(base64.b64decode(value[name]), kind).tolist()


def test_packed_cells_come_out_as_they_were() -> None:
    timeline = timeline_of(full().recorder)
    cells = map_cells(timeline)
    value = map_value(timeline, colour="attention", selected=3)
    assert value["n"] == len(cells)
    shown = Shown()
    shown.take(value)
    assert shown.is_like(map_cells(timeline, colour="attention"), levels=True)
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
    assert len(json.dumps(value)) < 6 * value["n"]


@pytest.mark.parametrize("arrangement", list(ARRANGEMENTS))
@pytest.mark.parametrize("colour", list(COLOURS))
def test_a_step_tells_only_the_cells_that_changed(colour: str, arrangement: str) -> None:
    session = full(400, 150)
    timeline = timeline_of(session.recorder)
    maps: dict[str, Any] = {}
    shown, sizes, n = Shown(), [], len(timeline.events)
    for step in [None, *range(n - 1, n - 60, -1), 40, 7, n // 2, *range(n // 2, n // 2 + 40), None]:
        look = Look(step, colour, arrangement)
        value = map_update(maps, "map", timeline, look)
        sizes.append(len(json.dumps(value)))
        shown.take(value)
        assert shown.is_like(map_cells(timeline, step, colour, arrangement), colour == "attention")
    assert shown.missed == 0
    if arrangement == "read":  # among the bank's slots every eviction moves all that follow
        assert np.median(sizes) < 1_500, "words, and a few cells"


def test_a_value_that_was_missed_is_noticed_and_the_whole_map_mends_it() -> None:
    timeline = timeline_of(full(400, 150).recorder)
    maps: dict[str, Any] = {}
    shown = Shown()
    shown.take(map_update(maps, "map", timeline))
    map_update(maps, "map", timeline, Look(600))  # never arrives
    shown.take(map_update(maps, "map", timeline, Look(601)))
    assert shown.missed == 1
    maps.pop("map")
    shown.take(map_update(maps, "map", timeline, Look(601)))
    assert shown.is_like(map_cells(timeline, 601))


def test_another_document_or_colour_tells_the_whole_map() -> None:
    session = made()
    session.read(30, "A")
    maps: dict[str, Any] = {}
    assert map_update(maps, "map", timeline_of(session.recorder))["base"] == WHOLE
    assert map_update(maps, "map", timeline_of(session.recorder))["base"] != WHOLE
    assert map_update(maps, "map", timeline_of(session.recorder), Look(colour="age"))["base"] == WHOLE
    session.read(4, "B")
    assert map_update(maps, "map", timeline_of(session.recorder), Look(colour="age"))["base"] == WHOLE


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


def test_pinned_chunks_have_the_green_of_each_theme() -> None:
    script = (Path(memory_map_module.__file__).parent / "memory_map.js").read_text("utf-8")
    light, dark = MEANINGS["pinned"]
    assert f"light: '{light}', dark: '{dark}'" in script, "the light one is lost on a dark ground"
