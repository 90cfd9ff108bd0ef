"""The Lab tab: four ways to answer, policies replayed, what if memory held other chunks, and a needle of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from app import lab, replaying
from app.context import App
from app.plots import lab as plots
from app.plots.style import how_to_read
from app.sessions import Visit
from app.tabs import lab_pieces as pieces
from app.tabs import lab_runs as runs
from app.tabs.pieces import error_box, is_error
from app.text import escape
from memlong.errors import MemLongError

TITLE = "Lab"
Panel = tuple[list[Any], Any, list[Any]]  # inputs, button, outputs


@dataclass
class Parts:
    """Components of the tab that events need. ``panels``: name -> what one button reads, and what it fills.

    ``stops``: those of the panels that may take long, by name. ``own``: whether the question is the visitor's own.
    ``picked``: the answer they chose or tried something with, by its id. What is nobody's choice yet becomes the newest
    when the tab is opened.
    """

    tab: gr.Tab
    panels: dict[str, Panel]
    stops: dict[str, gr.Button]
    own: gr.State
    picked: gr.State

    @property
    def everything(self) -> list[Any]:
        """All that tells of one memory, in the order of :func:`anew`."""
        results = [each for _, _, outputs in self.panels.values() for each in outputs]
        return [self.panels["needle"][0][3], *self.panels["changed"][0], *results]


def build(app: App) -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``."""
    del app
    panels: dict[str, Panel] = {}
    stops: dict[str, gr.Button] = {}
    with gr.Tab(TITLE, id="lab", elem_id="tab-lab") as tab:
        own, picked = gr.State(False), gr.State(None)
        gr.HTML(
            f'<h2 class="ml-h2">{escape(pieces.HEADING)}</h2><p class="ml-line">{escape(pieces.ABOUT)}</p>',
            elem_id="lab-about",
        )
        with gr.Accordion("Same question, four ways: did memory help at all?", open=True, elem_id="lab-ways"):
            panels["ways"] = _ways(stops)
        with gr.Accordion("Policies: would another one have kept more?", open=False, elem_id="lab-policies"):
            panels["policies"] = _policies(stops)
        with gr.Accordion("What if: which chunk did an answer need?", open=False, elem_id="lab-what-if"):
            panels |= _what_if(stops)
        with gr.Accordion("Needle: is a sentence of your own found again?", open=False, elem_id="lab-needle"):
            panels["needle"] = _needle(stops)
    return Parts(tab, panels, stops, own, picked)


def _stop(stops: dict[str, gr.Button], name: str) -> None:
    """Put Stop beside the button it belongs to: the tab is many screens long."""
    stops[name] = gr.Button("Stop", elem_id=f"lab-stop-{name}", scale=0, min_width=84, interactive=False)


def _ways(stops: dict[str, gr.Button]) -> Panel:
    with gr.Row(elem_classes="ml-actions"):
        question = gr.Textbox(label="Question", elem_id="lab-question", scale=3, min_width=240, max_lines=3)
        tokens = gr.Slider(8, 128, value=32, step=8, label="Length (tokens)", elem_id="lab-length", min_width=240)
        ask = gr.Button("Ask four ways", variant="primary", elem_id="lab-ask", scale=0, min_width=150)
        _stop(stops, "ways")
    return [question, tokens], ask, [gr.HTML(blank("ways")[0], elem_id="lab-four")]


def _policies(stops: dict[str, gr.Button]) -> Panel:
    with gr.Row(elem_classes="ml-actions"):
        shares = gr.CheckboxGroup(
            [("an eighth", 0.125), ("a quarter", 0.25), ("a half", 0.5), ("three quarters", 0.75)],
            value=list(replaying.SHARES),
            label="Capacities to try, as shares of what was read",
            elem_id="lab-shares",
        )
        run = gr.Button("Replay", variant="primary", elem_id="lab-replay", scale=0, min_width=150)
        _stop(stops, "policies")
    words, by_capacity, over_time, rows = blank("policies")
    said = gr.HTML(words, elem_id="lab-policies-said")
    with gr.Row(equal_height=False, elem_classes="ml-columns"):
        one = _plot(by_capacity, "lab-recall")
        two = _plot(over_time, "lab-course")
    table = gr.HTML(rows, elem_id="lab-policies-table")
    return [shares], run, [said, one, two, table]


def _what_if(stops: dict[str, gr.Button]) -> dict[str, Panel]:
    with gr.Row(elem_classes="ml-actions"):
        answer = gr.Dropdown([], value=None, label="Answer", elem_id="lab-answer", scale=4, min_width=240)
        weigh = gr.Button("Weigh its chunks", variant="primary", elem_id="lab-weigh", scale=0, min_width=150)
        _stop(stops, "owed")
    words, bars = blank("owed")
    said = gr.HTML(words, elem_id="lab-owed-said")
    plot = _plot(bars, "lab-owed")
    gr.HTML(f'<p class="ml-line lab-change">{escape(pieces.CHANGE)}</p>', elem_id="lab-change")
    with gr.Row(elem_classes="ml-actions"):
        without, held, gone = (
            gr.Dropdown(
                [], value=[], multiselect=True, label=label, elem_id=elem_id, min_width=260, info=info,
                allow_custom_value=True, max_choices=8,
            )
            for label, elem_id, info in (
                ("Leave out", "lab-without", "chunks that the answer, and what was asked first, were given"),
                ("Put in", "lab-instead", "chunks in memory, nearest to the question first, or a number"),
                ("Bring back", "lab-back", "chunks that left, nearest first, or a number; read again"),
            )
        )  # fmt: skip
    with gr.Row(elem_classes="ml-actions lab-buttons"):
        again = gr.Button("Ask again", variant="primary", elem_id="lab-again", scale=0, min_width=150)
        _stop(stops, "changed")
        keep = gr.Button("Pin these in memory", elem_id="lab-keep", scale=0, min_width=150)
    result = gr.HTML(blank("changed")[0], elem_id="lab-changed")
    kept = gr.HTML(blank("keep")[0], elem_id="lab-kept")
    return {
        "owed": ([answer], weigh, [said, plot]),
        "changed": ([answer, without, held, gone], again, [result]),
        "keep": ([held, gone], keep, [kept]),
    }


def _needle(stops: dict[str, gr.Button]) -> Panel:
    with gr.Row(elem_classes="ml-actions"):
        sentence = gr.Textbox(
            "The password of the harbour office is Marigold.", label="Sentence to hide", elem_id="needle-sentence",
            min_width=280, scale=2,
        )  # fmt: skip
        question = gr.Textbox(
            "What is the password of the harbour office?", label="Question", elem_id="needle-question", min_width=240,
            scale=2,
        )  # fmt: skip
        expected = gr.Textbox("Marigold", label="A right answer contains", elem_id="needle-expected", min_width=160)
    with gr.Row(elem_classes="ml-actions"):
        document = gr.Dropdown([], value=None, label="Document", elem_id="needle-document", min_width=220, scale=2)
        start = gr.Slider(0, 95, value=0, step=5, label="Begin at (% of it)", elem_id="needle-start", min_width=200)
        tokens = gr.Slider(
            512,
            lab.NEEDLE_TOKENS,
            value=2048,
            step=256,
            label="Length (tokens)",
            elem_id="needle-tokens",
            min_width=200,
        )
    with gr.Row(elem_classes="ml-actions"):
        depths = gr.Slider(1, 5, value=3, step=1, label="Depths to hide it at", elem_id="needle-depths", min_width=200)
        shares = gr.CheckboxGroup(
            [("a quarter", 0.25), ("a half", 0.5), ("all of it", 1.0)], value=[0.25, 1.0], min_width=260,
            label="Capacities, as shares of that text", elem_id="needle-shares",
        )  # fmt: skip
        run = gr.Button("Hide and ask", variant="primary", elem_id="needle-run", scale=0, min_width=150)
        _stop(stops, "needle")
    words, grid, places = blank("needle")
    said = gr.HTML(words, elem_id="needle-said")
    plot = _plot(grid, "needle-grid")
    tries = gr.HTML(places, elem_id="needle-tries")
    return [sentence, question, expected, document, start, tokens, depths, shares], run, [said, plot, tries]


def _plot(empty: Any, elem_id: str) -> gr.Plot:
    with gr.Column(scale=1, min_width=320):
        plot = gr.Plot(empty, show_label=False, container=False, elem_id=elem_id)
        gr.HTML(f'<p class="mm-how-plot">{escape(how_to_read(empty))}</p>')
    return plot


def blank(name: str) -> list[Any]:
    """Return the outputs of a panel before anything was tried."""
    if name == "policies":
        return [pieces.empty(name), plots.recall_by_capacity([]), plots.recall_over_time([]), ""]
    if name == "owed":
        return [pieces.empty(name), plots.owed_to_chunks([])]
    if name == "needle":
        return [pieces.empty(name), plots.needle_grid([], [], np.zeros((0, 0))), ""]
    return [pieces.empty(name) if name == "ways" else ""]


def anew(visit: Visit) -> list[Any]:
    """Return the values of :attr:`Parts.everything` with nothing tried yet."""
    results = [each for name in runs.HANDLERS for each in blank(name)]
    return [runs.documents(visit, None), *runs.menus(visit, None), *results]


def wire(app: App, parts: Parts) -> None:
    """Connect the events."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
    answer, without, held, gone = parts.panels["changed"][0]
    question, document = parts.panels["ways"][0][0], parts.panels["needle"][0][3]
    chosen = [answer, without, held, gone]
    said = [outputs[0] for _, _, outputs in parts.panels.values()]
    of_answer = [each for name in ("owed", "changed", "keep") for each in parts.panels[name][2]]

    def arrive(request: gr.Request, doc_id: int | None, own: bool, picked: int | None, *given: Any) -> list[Any]:
        visit, (asked, number, *picks), told = app.visit(request), given[:5], given[5:]
        now = runs.to_try(visit, number, picked)
        kept = picks if now == number else None  # those of another answer are no chunks of this one
        menus = [runs.question(visit, asked, own), runs.documents(visit, doc_id), *runs.menus(visit, now, kept)]
        return [*menus, *without_errors(parts, told)]

    def menus(request: gr.Request, number: int | None) -> list[Any]:
        return runs.menus(app.visit(request), number)

    def choose(request: gr.Request, number: int | None) -> list[Any]:
        """Return the menus of a chosen answer, and no finding of the one before."""
        visit = app.visit(request)
        blanks = [each for name in ("owed", "changed", "keep") for each in blank(name)]
        if visit.experimenting:  # what is being found would be wiped, and come back in parts
            blanks = [gr.skip() for _ in blanks]
        return [runs.id_of(visit, number), *runs.menus(visit, number), *blanks]

    def pick(request: gr.Request, number: int | None) -> int | None:
        return runs.id_of(app.visit(request), number)

    def stop(request: gr.Request) -> list[Any]:
        visit = app.visit(request)
        lab.stop(visit)
        # Two outputs: a button alone does not show that it works. What it ends disables it then.
        return [gr.skip(), gr.skip() if visit.experimenting else gr.Button(interactive=False)]

    events = {name: _connect(app, parts, name, run, quiet) for name, run in runs.HANDLERS.items()}
    events["keep"].then(menus, [answer], chosen, **quiet)
    seen = [document, parts.own, parts.picked, question, *chosen, *said]
    parts.tab.select(arrive, seen, [question, document, *chosen, *said], **quiet)
    answer.input(choose, [answer], [parts.picked, *chosen, *of_answer], **quiet)
    tried = [parts.panels[name][1] for name in ("owed", "changed")]
    for button in tried:
        button.click(pick, [answer], parts.picked, queue=False, **quiet)
    for event in (question.input, parts.panels["ways"][1].click):
        event(lambda: True, None, parts.own, queue=False, **quiet)
    for name, each in parts.stops.items():
        fills = [parts.panels[name][2][0], each]
        each.click(stop, None, fills, queue=False, show_progress="hidden", api_visibility="private")


def without_errors(parts: Parts, told: Sequence[str | None]) -> list[Any]:
    """Return what every panel says, for somebody who comes back to the tab: what was wrong may be mended by now."""
    said = zip(parts.panels, told, strict=True)
    return [blank(name)[0] if is_error(words) else gr.skip() for name, words in said]


def _connect(app: App, parts: Parts, name: str, run: Callable[..., Iterator[Any]], quiet: dict[str, Any]) -> Any:
    """Let a panel's button run its handler; the Stop beside it can be pressed as long as it does."""
    inputs, button, outputs = parts.panels[name]
    stops = [parts.stops[name]] if name in parts.stops else []

    def values(shown: Sequence[Any], goes_on: bool) -> Any:
        told = [*shown, *(gr.Button(interactive=goes_on) for _ in stops)]
        return told if len(told) > 1 else told[0]  # gradio would show a list of one as a list

    def step(request: gr.Request, *given: Any) -> Iterator[Any]:
        visit = app.visit(request)
        try:
            for shown in run(visit, *given):
                yield values(shown, visit.experimenting)
        except MemLongError as error:  # another experiment may be going on: its own Stop ends that
            yield values([error_box(error), *(gr.skip() for _ in outputs[1:])], False)
        yield values([gr.skip() for _ in outputs], False)

    return button.click(step, inputs, [*outputs, *stops], **quiet)
