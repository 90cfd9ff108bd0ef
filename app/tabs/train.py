"""The Train tab: start the very command it shows, follow it, stop it, go on. It trains nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.context import App
from app.plots import training as plots
from app.plots.style import how_to_read
from app.recipes import parse_overrides, recipes, shown
from app.tabs import train_pieces as pieces
from app.tabs.pieces import error_box
from app.text import at_home, escape, plural
from app.training_runs import Run, Runs, require_name
from memlong.errors import MemLongError
from memlong.paths import data_dir

TITLE = "Train"
SHOW_EVERY = 2.0  # seconds between two looks at a run that is going on
FIRST = "tiny"  # the recipe that is offered first, since it is over soon
# What pictures were drawn from: name of the run, its state, and its number of steps.
Drawn = tuple[str, str, int]


@dataclass
class Parts:
    """Components of the tab that events or other tabs need.

    Attributes:
        form: recipe, overrides, name. about: purpose, values, command, in the order of :func:`described`.
        chosen: the run that is followed. view: in the order of :func:`followed`. drawn: see :data:`Drawn`.
        load: offers the run's export to the Settings tab.
    """

    tab: gr.Tab
    form: list[Any]
    about: list[gr.HTML]
    start: gr.Button
    said: gr.HTML
    chosen: gr.Dropdown
    stop: gr.Button
    resume: gr.Button
    load: gr.Button
    view: list[Any]
    drawn: gr.State
    timer: gr.Timer


def build(app: App) -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``."""
    allowed = app.settings.changes_allowed
    with gr.Tab(TITLE, id="train", elem_id="tab-train") as tab:
        if not allowed:
            gr.HTML(pieces.NOT_ALLOWED)
        with gr.Row(equal_height=False, elem_classes="ml-columns", visible=allowed):
            with gr.Column(scale=5, min_width=320):
                gr.HTML('<h2 class="ml-h2">1. Choose a recipe</h2>', elem_classes="ml-head")
                recipe = gr.Dropdown([], label="Recipe", elem_id="recipe")
                purpose = gr.HTML(pieces.ASKING_FOR_RECIPES, elem_id="recipe-purpose")
                overrides = gr.Textbox(
                    label="Changes (optional)", lines=2, max_lines=8, elem_id="overrides",
                    placeholder="steps=100 memory.top_k=8",
                    info="key=value, with blanks or line ends between. Names are listed under Values.",
                )  # fmt: skip
                name = gr.Textbox(label="Name of the run", max_lines=1, elem_id="run-name")
                with gr.Accordion("Values of this recipe", open=False, elem_id="recipe-values"):
                    values = gr.HTML("", elem_id="values")
                gr.HTML('<h2 class="ml-h2">2. Start it</h2>', elem_classes="ml-head")
                gr.HTML('<p class="ml-line">The command, as a terminal takes it in this app\'s folder:</p>')
                command = gr.HTML("", elem_id="command")
                start = gr.Button("Start", variant="primary", elem_id="start-run", scale=0, min_width=120)
                said = gr.HTML("", elem_id="train-said")
            with gr.Column(scale=6, min_width=320):
                gr.HTML('<h2 class="ml-h2">3. Follow it</h2>', elem_classes="ml-head")
                chosen = gr.Dropdown([], label="Run", elem_id="run")
                state = gr.HTML(pieces.NO_RUN, elem_id="run-state")
                with gr.Row(elem_classes="ml-actions"):
                    stop = gr.Button("Stop", elem_id="stop-run", scale=0, min_width=100, interactive=False)
                    resume = gr.Button("Resume", elem_id="resume-run", scale=0, min_width=110, interactive=False)
                    load = gr.Button("Load into the app", elem_id="load-run", scale=0, min_width=210, interactive=False)
                loss = _plot(plots.loss([]), "run-loss")
                hesitation = _plot(plots.perplexities([]), "run-perplexity")
                with gr.Accordion("Log", open=False, elem_id="run-log"):
                    log = gr.HTML(pieces.log_box(None))
        drawn = gr.State(None)
        timer = gr.Timer(SHOW_EVERY, active=False)
    form, about = [recipe, overrides, name], [purpose, values, command]
    view = [state, stop, resume, load, log, loss, hesitation]
    return Parts(tab, form, about, start, said, chosen, stop, resume, load, view, drawn, timer)


def _plot(empty: Any, elem_id: str) -> gr.Plot:
    plot = gr.Plot(empty, show_label=False, container=False, elem_id=elem_id)
    gr.HTML(f'<p class="mm-how-plot">{escape(how_to_read(empty))}</p>')
    return plot


def runs_of(app: App) -> Runs:
    """Return the runs below the app's data folder."""
    return Runs((app.settings.data_dir or Path(data_dir())) / "runs")


def wire(app: App, parts: Parts) -> Runs:
    """Connect the events, and return the runs; nothing happens where visitors may not train."""
    runs = runs_of(app)
    if not app.settings.changes_allowed:
        return runs
    quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
    # Opening the tab asks the training program for its recipes, which takes seconds. One after the other, its answer
    # cannot come after a run was started, and offer the name and show the command of before.
    in_order = quiet | {"concurrency_limit": 1, "concurrency_id": "form of a run"}
    follow = [parts.chosen, *parts.view, parts.drawn, parts.timer]
    recipe = parts.form[0]

    def arrive(chosen: str | None, name: str | None) -> list[Any]:
        return [*offered(runs, name), *follow_newest(runs, chosen)]

    def choose(name: str | None) -> list[Any]:
        return [runs.free_name(name) if name else "", *described(runs, name, "", None)]

    def describe(name: str | None, overrides: str, run: str) -> list[Any]:
        return described(runs, name, overrides, run)

    def command(name: str | None, overrides: str, run: str) -> Any:
        return described(runs, name, overrides, run)[2]

    def start(name: str | None, overrides: str, run: str) -> list[Any]:
        return started(runs, name, overrides, run)

    def stop_run(name: str | None) -> list[Any]:
        return done(runs, name, runs.stop)

    def resume(name: str | None) -> list[Any]:
        return done(runs, name, runs.resume)

    def look(name: str | None) -> list[Any]:
        return followed(runs, name, None)

    def tick(name: str | None, drawn: Drawn | None) -> list[Any]:
        return followed(runs, name, drawn)

    about = [*parts.about, parts.said]
    opened = parts.tab.select(arrive, [parts.chosen, recipe], [recipe, *follow], **in_order)
    opened.then(choose, recipe, [parts.form[2], *about], **in_order)
    recipe.input(choose, recipe, [parts.form[2], *about], **in_order)
    # One event of both boxes: whoever goes from one to the other is told of what stands there last.
    left = [parts.form[1].blur, parts.form[2].blur]
    gr.on(left, describe, parts.form, about, trigger_mode="always_last", **quiet)
    out = [parts.said, parts.form[2], *follow]
    pressed = parts.start.click(start, parts.form, out, trigger_mode="once", **in_order)
    pressed.then(command, parts.form, parts.about[2], **in_order)  # that of the next run
    for button, function in ((parts.stop, stop_run), (parts.resume, resume)):
        button.click(function, parts.chosen, [parts.said, *follow[1:]], trigger_mode="once", **quiet)
    parts.chosen.input(look, parts.chosen, follow[1:], **quiet)
    parts.timer.tick(tick, [parts.chosen, parts.drawn], follow[1:], **quiet)
    return runs


def offered(runs: Runs, name: str | None) -> list[Any]:
    """Return the menu of recipes; the chosen one stays chosen."""
    try:
        known = recipes(runs.program)
    except MemLongError:
        return [gr.Dropdown(choices=[], value=None)]
    first = FIRST if FIRST in known else next(iter(known), None)
    return [gr.Dropdown(choices=list(known), value=name if name in known else first)]


def described(runs: Runs, name: str | None, text: str, run: str | None) -> list[Any]:
    """Return a recipe's purpose, its values, its command, and what is wrong with the changes."""
    purpose = ""
    try:
        known = recipes(runs.program)
        if not name:
            return ["", "", "", ""]
        purpose = f'<p class="ml-line">{escape(known.get(name, ""))}</p>'
        overrides, run = parse_overrides(text), (run or "").strip() or runs.free_name(name)
        require_name(run)
        command = pieces.command_box(runs.command(name, overrides, run))
        values = shown(name, overrides, runs.program)
    except MemLongError as error:
        return [purpose, gr.skip(), pieces.NO_COMMAND, error_box(error)]
    changed = [item.partition("=")[0] for item in overrides]
    return [purpose, pieces.values_table(values, changed), command, ""]


def started(runs: Runs, name: str | None, text: str, run: str) -> list[Any]:
    """Start a run and return: what is wrong, the next free name, and the run that is followed now."""
    try:
        overrides = parse_overrides(text)
        shown(name or "", overrides, runs.program)  # refuses what the run would only refuse in its log
        made = runs.start(str(name), overrides, run.strip() or runs.free_name(str(name)))
    except MemLongError as error:
        return [error_box(error), gr.skip(), gr.skip(), *[gr.skip()] * 9]
    return ["", runs.free_name(str(name)), menu(runs, made.record.name), *followed(runs, made.record.name, None)]


def done(runs: Runs, name: str | None, what: Any) -> list[Any]:
    """Stop or resume a run, and return what is wrong, and how it is going."""
    said = ""
    try:
        what(name or "")
    except MemLongError as error:
        said = error_box(error)
    return [said, *followed(runs, name, None)]


def menu(runs: Runs, chosen: str | None) -> Any:
    """Return the menu of runs, the newest first."""
    names = runs.names()
    return gr.Dropdown(choices=names, value=chosen if chosen in names else (names[0] if names else None))


def follow_newest(runs: Runs, chosen: str | None) -> list[Any]:
    """Return the menu of runs and how the chosen one is going, or else the newest."""
    names = runs.names()
    name = chosen if chosen in names else (names[0] if names else None)
    return [menu(runs, name), *followed(runs, name, None)]


def followed(runs: Runs, name: str | None, drawn: Drawn | None) -> list[Any]:
    """Return how a run is going: state, buttons, log, pictures, what they were drawn from, and the timer.

    Pictures are sent only when they changed since ``drawn``: a new one forgets how it was zoomed.
    """
    run: Run | None = None
    try:
        run = runs.get(name) if name else None
    except MemLongError as error:
        return [error_box(error), *[gr.skip()] * 6, None, gr.Timer(active=False)]
    steps = run.steps if run else ()
    now: Drawn = (name or "", run.state if run else "", len(steps))
    same = drawn is not None and tuple(drawn) == now
    words = plots.NO_STEP if run else plots.NOTHING
    pictures = [gr.skip(), gr.skip()] if same else [plots.loss(steps, words), plots.perplexities(steps, words)]
    alive = run is not None and run.alive
    return [
        pieces.state(run),
        gr.Button(interactive=alive and run is not None and run.state != "stopping"),
        gr.Button(interactive=run is not None and run.state in ("stopped", "failed")),
        gr.Button(interactive=run is not None and not alive and run.export is not None),
        pieces.log_box(run),
        *pictures,
        now,
        gr.Timer(active=alive),
    ]


def export_of(runs: Runs, name: str | None) -> tuple[str, str] | None:
    """Return the folder that a finished run exported, and words about it; None when there is none."""
    try:
        run = runs.get(name or "")
    except MemLongError:
        return None
    if run.export is None:
        return None
    steps = plural(run.steps[-1].step, "step") if run.steps else "no steps"
    return at_home(run.export), f"the export of {run.record.name} ({steps} of {run.record.recipe})"
