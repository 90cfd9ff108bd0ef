"""The Memory tab as it lies on the page: its components, and nothing that happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.plots import memory as plots
from app.plots.style import how_to_read
from app.rows import chunks, log, words
from app.rows.cells import ARRANGEMENTS, COLOURS
from app.tabs import life
from app.tabs.memory_map import memory_map
from app.tabs.saving import Saver, saver
from app.text import escape

TITLE = "Memory"
MAP = "memory-map"
ANY = -1  # the choice "any document" of a dropdown
_TABLE_TYPES = ["number", "str", "number", "number", "number", "number", "str", "str", "str", "str"]
_TABLE_WIDTHS = [64, 76, 82, 108, 120, 74, 130, 170, 196, 236]


@dataclass
class Parts:
    """Components of the tab that events or other tabs need.

    Attributes:
        looks: what decides what is shown, in the order of :func:`app.tabs.memory.look_of`.
        top, details: what is redrawn, in the order of the functions of these names in ``app.tabs.memory``.
        picked: the question that the visitor chose to be asked again; None while it is the newest.
        changed: events after which memory is another; other tabs hang their own redrawing on them.
    """

    tab: gr.Tab
    timer: gr.Timer
    step: gr.State
    chunk: gr.State
    slider: gr.Slider
    jump: gr.Dropdown
    now: gr.Button
    map: gr.HTML
    life: gr.HTML
    question: gr.Dropdown
    picked: gr.State
    again: gr.Button
    stop: gr.Button
    answers: gr.HTML
    said: gr.HTML
    save: Saver
    looks: list[Any]
    top: list[Any]
    details: list[Any]
    changed: list[Any]


def lay_out() -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``."""
    with gr.Tab(TITLE, id="memory", elem_id="tab-memory") as tab:
        timer, step, chunk = gr.Timer(1.0, active=False), gr.State(None), gr.State(None)
        picked = gr.State(None)
        head = gr.HTML(life.NOTHING_READ, elem_id="memory-head")
        with gr.Row(equal_height=False, elem_classes="ml-columns"):
            with gr.Column(scale=7, min_width=320):
                colour = gr.Radio(
                    [(name, key) for key, name in COLOURS.items()],
                    value="triggers",
                    label="Colour",
                    elem_id="map-colour",
                )
                arrangement = gr.Radio(
                    [(name, key) for key, name in ARRANGEMENTS.items()],
                    value="read",
                    label="Cells",
                    elem_id="map-cells",
                )
                cells = memory_map(MAP)
                slider, jump, now, moment = _replay()
            with gr.Column(scale=5, min_width=320):
                said = gr.HTML("", elem_id="memory-said")
                shown = gr.HTML(life.NOTHING_CHOSEN, js_on_load=life.FOLLOW, elem_id="life")
                question, again, stop, answers = _again()
        with gr.Row(equal_height=False, elem_classes="ml-columns"):
            figures = [
                *_plot(plots.occupancy([]), "occupancy"),
                *_plot(plots.trigger_counts([]), "trigger-counts"),
            ]
        table_looks, table, save = _table()
        log_looks, events = _log()
    return Parts(
        tab, timer, step, chunk, slider, jump, now, cells, shown, question, picked, again, stop, answers, said,
        save,
        looks=[step, colour, arrangement, chunk, *table_looks, *log_looks],
        top=[head, cells, moment, shown], details=[figures[0], figures[1], *table, *events, shown], changed=[],
    )  # fmt: skip


def _replay() -> tuple[gr.Slider, gr.Dropdown, gr.Button, gr.HTML]:
    gr.HTML('<h2 class="ml-h2">Go back in time</h2>', elem_classes="ml-head")
    slider = gr.Slider(
        0,
        1,
        value=1,
        step=1,
        label="Step of reading and answering",
        elem_id="replay",
        info="Everything on this tab shows memory as it was then. Arrow keys go one event at a time.",
    )
    moment = gr.HTML("", elem_id="moment")
    with gr.Row(elem_classes="ml-actions"):
        jump = gr.Dropdown([], value=None, label="Jump to", elem_id="jump", scale=3, min_width=200)
        now = gr.Button("Back to now", elem_id="now", size="sm", scale=0, min_width=130)
    return slider, jump, now, moment


def _again() -> tuple[gr.Dropdown, gr.Button, gr.Button, gr.HTML]:
    with gr.Accordion("Ask again and compare", open=False, elem_id="ask-again"):
        question = gr.Dropdown(
            [],
            value=None,
            label="Question asked before",
            elem_id="again-question",
            info="Pin, delete or bring back a chunk first; asked as it was, it then shows what that changed.",
        )
        with gr.Row(elem_classes="ml-actions"):
            again = gr.Button("Ask again", elem_id="again", size="sm", min_width=120)
            stop = gr.Button("Stop", elem_id="stop-again", size="sm", scale=0, min_width=84, interactive=False)
        answers = gr.HTML("", elem_id="again-answers")
    return question, again, stop, answers


def _plot(empty: Any, elem_id: str) -> list[gr.Plot]:
    # The first figure loads a large script: an empty one at build time keeps that out of the way of reading.
    with gr.Column(scale=1, min_width=320):
        plot = gr.Plot(empty, show_label=False, container=False, elem_id=elem_id)
        gr.HTML(f'<p class="mm-how-plot">{escape(how_to_read(empty))}</p>')
    return [plot]


def _table() -> tuple[list[Any], list[Any], Saver]:
    gr.HTML('<h2 class="ml-h2">All chunks</h2>', elem_classes="ml-head")
    with gr.Row(elem_classes="ml-actions"):
        search = gr.Textbox(label="Search text or chunk number", max_lines=1, elem_id="chunk-search", min_width=200)
        document = gr.Dropdown(
            [("any document", ANY)], value=ANY, label="Document", elem_id="chunk-document", min_width=150
        )
        state = gr.Dropdown(
            list(chunks.STATES), value=chunks.STATES[0], label="State", elem_id="chunk-state", min_width=130
        )
        order = gr.Dropdown(
            list(chunks.ORDERS),
            value=next(iter(chunks.ORDERS)),
            label="Order",
            elem_id="chunk-order",
            min_width=170,
        )
        page = gr.Number(1, precision=0, label="Page", elem_id="chunk-page", min_width=90)
    said = gr.HTML("", elem_id="chunk-said")
    table = gr.Dataframe(
        [], headers=chunks.HEADERS, datatype=_TABLE_TYPES, interactive=False, column_widths=_TABLE_WIDTHS,
        max_height=420, show_label=False, elem_id="chunk-table", elem_classes="mm-wide", buttons=[],
    )  # fmt: skip
    save = saver("Save this table as CSV", "save-table")
    return [search, document, state, order, page], [table, said, page], save


def _log() -> tuple[list[Any], list[Any]]:
    gr.HTML('<h2 class="ml-h2">Event log</h2>', elem_classes="ml-head")
    with gr.Row(elem_classes="ml-actions"):
        kinds = gr.Dropdown(
            [(name, kind) for kind, name in words.KINDS.items()],
            value=[],
            multiselect=True,
            label="What happened",
            elem_id="log-kinds",
            min_width=220,
            info="None chosen shows all but single tokens and layers.",
        )
        document = gr.Dropdown(
            [("any document", ANY)], value=ANY, label="Document", elem_id="log-document", min_width=150
        )
        chunk = gr.Textbox(label="Chunk number", max_lines=1, elem_id="log-chunk", min_width=110)
        page = gr.Number(1, precision=0, label="Page", elem_id="log-page", min_width=90)
    said = gr.HTML("", elem_id="log-said")
    table = gr.Dataframe(
        [], headers=log.HEADERS, datatype=["number", "str", "str"], interactive=False, column_widths=[80, 150, 1010],
        max_height=420, wrap=True, show_label=False, elem_id="log-table", elem_classes="mm-wide", buttons=[],
    )  # fmt: skip
    return [kinds, document, chunk, page], [table, said, page]
