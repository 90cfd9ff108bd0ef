"""The memory map: thousands of cells on a canvas inside ``gr.HTML``, which can be clicked and walked by
keyboard.

A plot component cannot be clicked and falls behind above ten thousand cells; a canvas draws a hundred
thousand in a tenth of a second. The template never changes, so a new value redraws the canvas without
touching the page; the titles in it reach the page as text, never as HTML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app.looking import Look
from app.rows.cells import COLOURS, EVICTED, HELD, PINNED, Cells, map_cells
from app.rows.timeline import Timeline
from app.rows.words import mass_words
from app.tabs.map_changes import Sent, changes, pack
from app.text import number_words

_HERE = Path(__file__).parent
_TEMPLATE = """
<div class="mm">
  <div class="mm-head"><span class="mm-title"></span></div>
  <p class="mm-how"></p>
  <div class="mm-frame">
    <canvas class="mm-cells" tabindex="0" role="application" aria-roledescription="map of memory cells"
    aria-label="Memory map"></canvas> <canvas class="mm-marks" aria-hidden="true"></canvas>
    <div class="mm-tip" aria-hidden="true"></div>
    <div class="mm-empty"></div>
  </div>
  <ul class="mm-legend" aria-label="Legend"></ul>
  <div class="mm-live" aria-live="polite"></div>
</div>
"""
EMPTY_WORDS = (
    "Nothing has been read yet. Take a sample or upload a document in the Read tab, and its chunks "
    "appear here one by one."
)

_HOW = {
    "read": "One cell is one chunk, in reading order; {colour}. Orange cells were evicted. Click a cell for its life.",
    "bank": "One cell is one slot of the bank, filled by age; {colour}. Click a cell for its life.",
}
_COLOUR_HOW = {
    "triggers": "the stronger the blue, the more often it was retrieved",
    "age": "the stronger the blue, the more chunks were written since",
    "document": "one colour for each document",
    "attention": "the stronger the blue, the larger its share of the attention of all answers so far",
}


def memory_map(elem_id: str) -> gr.HTML:
    """Return an empty map; it takes what :func:`map_value` returns.

    ``map.click(fn)`` calls ``fn(event: gr.EventData)``; :func:`clicked` reads the chunk's id from the event.
    ``map.input(fn)`` is called when it needs all cells, and ``map.release(fn)`` a moment after a value with ``rests``.
    """
    return gr.HTML(
        value=map_value(Timeline()),
        html_template=_TEMPLATE,
        css_template=(_HERE / "memory_map.css").read_text("utf-8"),
        js_on_load=(_HERE / "memory_map.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
    )


def clicked(event: gr.EventData) -> int:
    """Return the id of the chunk whose cell was clicked."""
    return int(event._data["chunk_id"])


def map_value(
    timeline: Timeline,
    step: int | None = None,
    colour: str = "triggers",
    arrangement: str = "read",
    selected: int | None = None,
) -> dict[str, Any]:
    """Return a map's value: packed arrays, some ten bytes a cell, and the words around them.

    Args:
        timeline: of the session (``timeline_of(session.recorder)``). step: to look at; None is now.
        colour: a key of ``COLOURS``. arrangement: a key of ``ARRANGEMENTS``. selected: a chunk id to mark.
    """
    cells = map_cells(timeline, step, colour, arrangement)
    told = pack(cells, timeline.titles, colour)
    return told | _words(cells, timeline, step, colour, arrangement) | _chosen(selected)


def map_update(shown: dict[str, Sent], name: str, timeline: Timeline, look: Look | None = None) -> dict[str, Any]:
    """Return what makes the map ``name`` of a page show what is looked at, and note in ``shown`` that it was told.

    A page that missed a value asks for all cells (its map's ``input`` event), for which its caller takes the map out
    of ``shown``.
    """
    look = look or Look()
    cells = map_cells(timeline, look.step, look.colour, look.arrangement)
    told = changes(shown.get(name), cells, timeline.titles, look.colour)
    shown[name] = Sent(told["serial"], cells, look.colour)
    return told | _words(cells, timeline, look.step, look.colour, look.arrangement) | _chosen(look.chunk_id)


def _chosen(selected: int | None) -> dict[str, int]:
    return {"selected": -1 if selected is None else selected}


def _words(cells: Cells, timeline: Timeline, step: int | None, colour: str, arrangement: str) -> dict[str, Any]:
    return {
        "empty": EMPTY_WORDS,
        "colour": colour,
        "arrangement": arrangement,
        "colour_words": f"{COLOURS[colour].lower()}:",
        "low_words": "0",
        "high_words": number_words(int(cells.high)) if colour != "attention" else mass_words(cells.high) or "0%",
        "written": timeline.written_by(step),
        "title": "Memory map",
        "how": _HOW[arrangement].format(colour=_COLOUR_HOW[colour]) if len(cells) else "",
        "summary": _summary(cells) if len(cells) else EMPTY_WORDS,
    }


def _summary(cells: Cells) -> str:
    held, pinned, evicted = cells.count(HELD, PINNED), cells.count(PINNED), cells.count(EVICTED)
    words = f"{number_words(held)} chunks in memory, {number_words(pinned)} pinned"
    return f"{words}, {number_words(evicted)} evicted."
