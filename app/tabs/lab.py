"""The Lab tab: four ways to answer, policies replayed, a needle of one's own, and what if memory held other chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from app import lab, looking
from app.context import App
from app.plots import lab as plots
from app.plots.style import how_to_read
from app.rows.chunks import chunk_rows
from app.sessions import Visit
from app.tabs import lab_pieces as pieces
from app.tabs import life
from app.tabs.pieces import error_box
from app.text import escape
from memlong.config import AskOptions
from memlong.errors import MemLongError

TITLE = "Lab"


@dataclass
class Parts:
    """Components of the tab that events need. ``panels``: name -> (inputs, button, outputs)."""

    tab: gr.Tab
    panels: dict[str, tuple[list[Any], Any, list[Any]]]
    stop: gr.Button


def build(app: App) -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``."""
    del app
    panels = {}
    with gr.Tab(TITLE, id="lab", elem_id="tab-lab") as tab:
        with gr.Row(elem_classes="ml-actions"):
            gr.HTML('<p class="ml-line">Experiments on what was read. One runs at a time.</p>', elem_id="lab-about")
            stop = gr.Button("Stop", elem_id="lab-stop", scale=0, min_width=90)
        with gr.Accordion("Same question, four ways: did memory help at all?", open=True, elem_id="lab-ways"):
            panels["ways"] = _ways()
        with gr.Accordion("Policies: would another one have kept more?", open=False, elem_id="lab-policies"):
            panels["policies"] = _policies()
        with gr.Accordion("What if: which chunk did an answer need?", open=False, elem_id="lab-what-if"):
            panels["owed"], panels["changed"] = _what_if()
        with gr.Accordion("Needle: hide a sentence of your own", open=False, elem_id="lab-needle"):
            panels["needle"] = _needle()
    return Parts(tab, panels, stop)


def _ways() -> tuple[list[Any], Any, list[Any]]:
    with gr.Row(elem_classes="ml-actions"):
        question = gr.Textbox(label="Question", elem_id="lab-question", scale=4, min_width=240, max_lines=3)
        tokens = gr.Slider(8, 128, value=32, step=8, label="Length (tokens)", elem_id="lab-length", min_width=160)
        ask = gr.Button("Ask four ways", variant="primary", elem_id="lab-ask", scale=0, min_width=150)
    return [question, tokens], ask, [gr.HTML(pieces.empty("ways"), elem_id="lab-four")]


def _policies() -> tuple[list[Any], Any, list[Any]]:
    with gr.Row(elem_classes="ml-actions"):
        shares = gr.CheckboxGroup(
            [("an eighth", 0.125), ("a quarter", 0.25), ("a half", 0.5), ("three quarters", 0.75)],
            value=list(lab.SHARES),
            label="Capacities, as shares of what was read",
            elem_id="lab-shares",
        )
        run = gr.Button("Replay", variant="primary", elem_id="lab-replay", scale=0, min_width=150)
    said = gr.HTML(pieces.empty("policies"), elem_id="lab-policies-said")
    with gr.Row(equal_height=False, elem_classes="ml-columns"):
        one = _plot(plots.recall_by_capacity([]), "lab-recall")
        two = _plot(plots.recall_over_time([]), "lab-course")
    return [shares], run, [said, one, two]


def _what_if() -> tuple[tuple[list[Any], Any, list[Any]], tuple[list[Any], Any, list[Any]]]:
    with gr.Row(elem_classes="ml-actions"):
        answer = gr.Dropdown([], value=None, label="Answer", elem_id="lab-answer", scale=4, min_width=240)
        weigh = gr.Button("Weigh its chunks", variant="primary", elem_id="lab-weigh", scale=0, min_width=150)
    said = gr.HTML(pieces.empty("owed"), elem_id="lab-owed-said")
    plot = _plot(plots.owed_to_chunks([]), "lab-owed")
    with gr.Row(elem_classes="ml-actions"):
        without = gr.Dropdown([], value=[], multiselect=True, label="Leave out", elem_id="lab-without", min_width=200)
        instead = gr.Dropdown([], value=[], multiselect=True, label="Put in", elem_id="lab-instead", min_width=200)
        again = gr.Button("Ask again", elem_id="lab-again", scale=0, min_width=150)
    two = gr.HTML("", elem_id="lab-changed")
    return ([answer], weigh, [said, plot]), ([answer, without, instead], again, [two])


def _needle() -> tuple[list[Any], Any, list[Any]]:
    sentence = gr.Textbox(
        "The password of the harbour office is Marigold.", label="Sentence to hide", elem_id="needle-sentence"
    )
    with gr.Row(elem_classes="ml-actions"):
        question = gr.Textbox(
            "What is the password of the harbour office?", label="Question", elem_id="needle-question", min_width=220
        )
        expected = gr.Textbox("Marigold", label="A right answer contains", elem_id="needle-expected", min_width=160)
    with gr.Row(elem_classes="ml-actions"):
        tokens = gr.Slider(
            512, lab.NEEDLE_TOKENS, value=2048, step=256, label="Tokens of the text to use", elem_id="needle-tokens",
            info="It is read once for every place.",
        )  # fmt: skip
        depths = gr.Slider(1, 5, value=3, step=1, label="Depths", elem_id="needle-depths")
        shares = gr.CheckboxGroup(
            [("a quarter", 0.25), ("a half", 0.5), ("all of it", 1.0)], value=[0.25, 1.0],
            label="Capacities, as shares of the text", elem_id="needle-shares",
        )  # fmt: skip
        run = gr.Button("Hide and ask", variant="primary", elem_id="needle-run", scale=0, min_width=150)
    said = gr.HTML(pieces.empty("needle"), elem_id="needle-said")
    plot = _plot(plots.needle_grid([], [], np.zeros((0, 0))), "needle-grid")
    return [sentence, question, expected, tokens, depths, shares], run, [said, plot]


def _plot(empty: Any, elem_id: str) -> gr.Plot:
    with gr.Column(scale=1, min_width=320):
        plot = gr.Plot(empty, show_label=False, container=False, elem_id=elem_id)
        gr.HTML(f'<p class="mm-how-plot">{escape(how_to_read(empty))}</p>')
    return plot


def wire(app: App, parts: Parts) -> None:
    """Connect the events."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}

    def connect(name: str, run: Callable[..., Iterator[Any]]) -> None:
        inputs, button, outputs = parts.panels[name]

        def step(request: gr.Request, *given: Any) -> Iterator[Any]:
            try:
                yield from run(app.visit(request), *given)
            except MemLongError as error:
                yield [error_box(error), *(gr.skip() for _ in outputs[1:])] if outputs[1:] else error_box(error)

        button.click(step, inputs, outputs, **quiet)

    for name, run in HANDLERS.items():
        connect(name, run)
    answer, without, instead = parts.panels["changed"][0]

    def arrive(request: gr.Request, chosen: int | None) -> list[Any]:
        return menus(app.visit(request), chosen)

    def stop(request: gr.Request) -> None:
        lab.stop(app.visit(request))

    parts.tab.select(arrive, [answer], [answer, without, instead], **quiet)
    answer.input(arrive, [answer], [answer, without, instead], **quiet)
    parts.stop.click(stop, None, None, queue=False, show_progress="hidden", api_visibility="private")


def menus(visit: Visit, chosen: int | None) -> list[Any]:
    """Return the menus of answers, of the chosen answer's chunks, and of all other chunks held."""
    named = pieces.answers(visit)
    chosen = chosen if any(chosen == number for _, number in named) else (named[0][1] if named else None)
    mine: list[int] = []
    held: list[int] = []
    if chosen is not None and visit.session is not None:
        mine = [item.chunk_id for item in visit.exchanges[chosen].evidence]
        rows = chunk_rows(looking.timeline(visit))
        held = [row.chunk_id for row in rows if row.state in ("held", "pinned") and row.chunk_id not in mine]
    return [
        gr.Dropdown(choices=named, value=chosen),
        gr.Dropdown(choices=[(f"chunk {chunk_id}", chunk_id) for chunk_id in mine], value=[]),
        gr.Dropdown(choices=[(f"chunk {chunk_id}", chunk_id) for chunk_id in held], value=[]),
    ]


def ways(visit: Visit, question: str, tokens: int) -> Iterator[str]:
    """Yield the four answers while they grow."""
    for found in lab.four_ways(visit, question, AskOptions(max_tokens=int(tokens))):
        yield pieces.four(found)


def policies(visit: Visit, shares: list[float]) -> Iterator[list[Any]]:
    """Yield how far replaying is, then what it found."""
    for result in lab.policies(visit, shares or lab.SHARES):
        said, recall, course = pieces.policies(result)
        yield [said, recall, course] if result.rows else [said, gr.skip(), gr.skip()]


def owed(visit: Visit, number: int | None) -> Iterator[list[Any]]:
    """Yield what an answer owes to its chunks, one after the other."""
    for rows in lab.owed(visit, -1 if number is None else number):
        yield list(pieces.owed(rows))


def changed(visit: Visit, number: int | None, without: list[int], instead: list[int]) -> Iterator[str]:
    """Yield the answer beside what it becomes with other chunks."""
    from app.sessions import Exchange

    number = -1 if number is None else number
    before = visit.exchanges[number] if 0 <= number < len(visit.exchanges) else None
    for step in lab.changed(visit, number, without, instead):
        text = step if isinstance(step, str) else step.text
        after = Exchange(before.question if before else "", text, None if isinstance(step, str) else step)
        yield life.comparison(before, after, next(iter([*without, *instead]), None))


def needle(visit: Visit, sentence: str, question: str, expected: str, *size: Any) -> Iterator[list[Any]]:
    """Yield the grid while it fills; ``size``: tokens, depths, shares."""
    from memlong.evaluation.needle import Needle

    tokens, depths, shares = size
    drawn = -1
    for step in lab.needle(visit, Needle(sentence, question, expected), int(tokens), int(depths), shares):
        said, grid = pieces.needle(step)
        yield [said, grid if len(step.tries) != drawn else gr.skip()]
        drawn = len(step.tries)


HANDLERS: dict[str, Callable[..., Iterator[Any]]] = {
    "ways": ways, "policies": policies, "owed": owed, "changed": changed, "needle": needle,
}  # fmt: skip
