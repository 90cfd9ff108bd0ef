"""Where settings and other tabs meet: links and training runs fill in the form; another model redraws the page."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.context import App
from app.reading import estimate as read_estimate
from app.sessions import Visit
from app.setup import MOST_CHUNKS
from app.tabs import ask, ask_controls, attention, lab, read, settings, train
from app.tabs.pieces import engine_line
from app.training_runs import Runs

LOOK_EVERY = 4.0  # seconds between two looks whether another model was loaded by somebody else


def connect(app: App, page: gr.Blocks, tabs: gr.Tabs, parts: dict[str, Any], runs: Runs) -> None:
    """Fill in the form from the address when the page opens, and redraw everything when another model serves."""
    mine, reading, asking, memory = parts["settings"], parts["read"], parts["ask"], parts["memory"]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    controls = [asking.controls[2], reading.capacity, reading.policy]

    def arrive(request: gr.Request) -> list[Any]:
        form, brought = settings.arrive(app, {str(key): str(text) for key, text in request.query_params.items()})
        return [*form, gr.Tabs(selected="settings") if brought else gr.skip(), of_the_model(app)[0]]

    def redraw(request: gr.Request) -> list[Any]:
        visit = app.visit(request)
        emptied, visit.stale = visit.stale, False
        for item in visit.shelf:
            if item.state == "waiting" and item.estimate is None:
                read_estimate(visit, item)
        anew = of_another_memory(visit) if emptied else [gr.skip()] * len(of_memory)
        return [engine_line(app.engine), *read.picture(visit), *ask.picture(visit), *of_the_model(app), *anew]

    def offer(name: str | None) -> list[Any]:
        found = train.export_of(runs, name)
        if found is None:
            return [gr.skip()] * (len(mine.form) + 2)
        return [*settings.fill_model(app, *found), gr.Tabs(selected="settings")]

    if app.settings.changes_allowed:
        parts["train"].load.click(offer, parts["train"].chosen, [*mine.form, mine.said, tabs], **quiet)
        parts["train"].load.click(settings.filled_otherwise, None, mine.chosen, **quiet)
    page.load(arrive, None, [*mine.form, mine.said, tabs, asking.controls[2]], queue=False, **quiet)
    looking = [*parts["attention"].everything, parts["attention"].words]
    of_memory = [asking.controls[1], memory.timer, memory.step, memory.chunk, *looking, *parts["lab"].everything]
    drawn = [reading.engine, *reading.view, *asking.view, *controls, *of_memory]
    for changed in mine.changed:
        changed.then(redraw, None, drawn, **quiet)

    def look(request: gr.Request) -> list[Any]:
        visit = app.visits.peek(str(request.session_hash))
        return redraw(request) if visit is not None and visit.stale else [gr.skip()] * len(drawn)

    if app.settings.changes_allowed:  # somebody else's page may load a model at any time
        gr.Timer(LOOK_EVERY).tick(look, None, drawn, queue=False, **quiet)


def of_another_memory(visit: Visit) -> list[Any]:
    """Return what the tabs Ask, Memory, Attention and Lab would else go on telling of a memory that is gone.

    Documents, chunks and answers are numbered from 0 again: a box ticked before would name another of them.
    """
    # The tab Memory draws itself when its clock ticks, which it stops again.
    documents, memory = ask_controls.documents_menu(visit, ()), [gr.Timer(active=True), None, None]
    return [documents, *memory, *attention.anew(visit), *lab.anew(visit)]


def of_the_model(app: App) -> list[Any]:
    """Return the controls of other tabs as the loaded model has them: top-k, capacity, policy.

    Gradio refuses every question whose slider stands beyond its end, and a model may bring any top-k of its own.
    """
    config = getattr(app.engine.model, "config", None)
    return [
        min(config.top_k, MOST_CHUNKS) if config else gr.skip(),
        app.engine.settings.capacity,
        app.engine.settings.policy,
    ]
