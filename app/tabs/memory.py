"""The Memory tab: every chunk's life, the bank at any step, and what you can do about both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import asking, looking
from app.context import App
from app.exports import chunks_file
from app.looking import Look
from app.plots import memory as plots
from app.rows import chunks, log
from app.sessions import Visit
from app.tabs import life
from app.tabs.memory_layout import ANY, MAP, TITLE, Parts, lay_out
from app.tabs.memory_map import clicked, map_update
from app.tabs.pieces import bank_line, error_box
from app.text import escape, one_line
from memlong.errors import MemLongError

__all__ = ["ANY", "TITLE", "Parts", "build", "wire"]

# The box beside the slider takes any number, and gradio refuses one beyond the slider's ends.
_WITHIN = """(at, ...looks) => {
  const last = Number(document.querySelector('#replay input[type=range]').max);
  return [Math.min(Math.max(Number(at) || 0, 0), last), ...looks];
}"""


def build(app: App) -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``; nothing of it depends on how the app was started."""
    del app
    return lay_out()


def wire(app: App, parts: Parts) -> None:
    """Connect the events. The newest wish wins: while a picture is made, only the last of the next is kept."""
    latest: dict[str, Any] = {
        "queue": False,
        "show_progress": "hidden",
        "trigger_mode": "always_last",
        "api_visibility": "private",
    }
    # Words and map come first, in one answer; figures and tables follow, for a page takes a second to draw them.
    first = [parts.slider, parts.jump, parts.question, parts.looks[5], parts.looks[10], *parts.top]

    def draw_top(request: gr.Request, *looks: Any) -> list[Any]:
        return top(app.visit(request), look_of(*looks))

    def draw_details(request: gr.Request, *looks: Any) -> list[Any]:
        return details(app.visit(request), look_of(*looks))

    def pick(question: str) -> str:
        return question

    def tick(request: gr.Request, question: str | None, *looks: Any) -> list[Any]:
        visit = app.visit(request)
        return [gr.Timer(active=visit.busy), *first_of(visit, look_of(*looks), question)]

    def act(request: gr.Request, event: gr.EventData, question: str | None, *looks: Any) -> list[Any]:
        visit = app.visit(request)
        said = done(visit, event._data["act"], int(event._data["id"]))
        return [said, None, *first_of(visit, look_of(None, *looks[1:]), question)]

    def again(request: gr.Request, question: str | None, chunk_id: int | None) -> Iterator[list[Any]]:
        visit = app.visit(request)
        refused = visit.answering  # by an answer whose Stop is on the tab Ask
        for shown in compare(visit, question, chunk_id):
            yield [shown, gr.Button(interactive=visit.answering and not refused)]

    def stop(request: gr.Request) -> list[Any]:
        visit = app.visit(request)
        asking.stop(visit)
        return [gr.skip(), gr.skip() if visit.answering else gr.Button(interactive=False)]

    def save(request: gr.Request, *looks: Any) -> str:
        return str(chunks_file(app.visit(request), look_of(*looks)))

    # What was chosen stays when the tab is opened anew; who chose nothing finds what they asked meanwhile.
    parts.question.input(pick, parts.question, parts.picked, **latest)
    came = parts.tab.select(tick, [parts.picked, *parts.looks], [parts.timer, *first], **latest)
    seen = [parts.question, *parts.looks]
    ticked = parts.timer.tick(tick, seen, [parts.timer, *first], **latest)
    # The second click of two would be refused, and hide what came of the first.
    acted = parts.life.click(act, seen, [parts.said, parts.step, *first], **latest | {"trigger_mode": "once"})
    asked = parts.again.click(
        again, [parts.question, parts.chunk], [parts.answers, parts.stop], show_progress="hidden",
        concurrency_limit=None, api_visibility="private",
    )  # fmt: skip
    parts.stop.click(
        stop, None, [parts.answers, parts.stop], queue=False, show_progress="hidden", api_visibility="private"
    )
    settled = asked.then(tick, seen, [parts.timer, *first], **latest)
    for event in (came, ticked, acted, settled):
        event.then(draw_details, parts.looks, parts.details, **latest)
    parts.save.on_click(save, parts.said, parts.looks)
    parts.changed += [acted, asked]
    _wire_time(app, parts, draw_top, draw_details, latest)
    _wire_choices(app, parts, draw_top, draw_details, latest)


def _wire_time(app: App, parts: Parts, draw_top: Any, draw_details: Any, latest: dict[str, Any]) -> None:
    def wind(request: gr.Request, position: float, *looks: Any) -> list[Any]:
        visit = app.visit(request)
        step = looking.timeline(visit).stop_at(int(position))
        said, cells, *rest = top(visit, look_of(step, *looks[1:]))
        return [step, said, cells | {"rests": True}, *rest]

    def jump(request: gr.Request, step: int | None) -> tuple[int | None, int]:
        timeline = looking.timeline(app.visit(request))
        return step, timeline.position_of(step) if step is not None else len(timeline.stops) - 1

    def now(request: gr.Request) -> tuple[None, int, None]:
        return None, max(1, len(looking.timeline(app.visit(request)).stops) - 1), None

    parts.slider.input(wind, [parts.slider, *parts.looks], [parts.step, *parts.top], js=_WITHIN, **latest)
    parts.map.release(draw_details, parts.looks, parts.details, **latest)
    for event in (
        parts.jump.input(jump, parts.jump, [parts.step, parts.slider], **latest),
        parts.now.click(now, None, [parts.step, parts.slider, parts.jump], **latest),
    ):
        event.then(draw_top, parts.looks, parts.top, **latest).then(draw_details, parts.looks, parts.details, **latest)


def _wire_choices(app: App, parts: Parts, draw_top: Any, draw_details: Any, latest: dict[str, Any]) -> None:
    def cell(request: gr.Request, event: gr.EventData, *looks: Any) -> list[Any]:
        return chosen(request, clicked(event), looks)

    def table_row(request: gr.Request, event: gr.SelectData, *looks: Any) -> list[Any]:
        number = int(event.row_value[0]) - 1 if event.row_value else looks[3]
        return chosen(request, number, looks)

    def chosen(request: gr.Request, chunk_id: int | None, looks: tuple[Any, ...]) -> list[Any]:
        return [chunk_id, "", *top(app.visit(request), look_of(*looks[:3], chunk_id, *looks[4:]))]

    def whole_map(request: gr.Request, *looks: Any) -> Any:
        visit = app.visit(request)
        visit.maps.pop(MAP, None)
        return top(visit, look_of(*looks))[1]

    def whole(request: gr.Request, *looks: Any) -> Any:
        return whole_life(app.visit(request), look_of(*looks))

    opened = [parts.chunk, parts.said, *parts.top]
    for event in (
        parts.map.click(cell, parts.looks, opened, **latest),
        parts.details[2].select(table_row, parts.looks, opened, **latest),
    ):
        event.then(whole, parts.looks, parts.life, **latest)
    parts.map.input(whole_map, parts.looks, parts.map, **latest)
    for choice in parts.looks[1:3]:
        choice.input(draw_top, parts.looks, parts.top, **latest)
    for choice in parts.looks[4:]:
        # A text box tells its input of typed letters alone, and not of what is pasted or taken out again. No handler
        # writes into it, so every change is the reader's own; page numbers are written, and would go round in circles.
        heard = choice.change if isinstance(choice, gr.Textbox) else choice.input
        heard(draw_details, parts.looks, parts.details, **latest)


def look_of(*looks: Any) -> Look:
    """Return what the components of :attr:`Parts.looks` say."""
    (
        step,
        colour,
        arrangement,
        chunk,
        search,
        document,
        state,
        order,
        page,
        kinds,
        log_doc,
        log_chunk,
        log_page,
    ) = looks
    number = str(log_chunk or "").strip()
    return Look(
        step, colour, arrangement, chunk,
        chunks.Filter(search or "", None if document in (ANY, None) else int(document), state, order), int(page or 1),
        log.LogFilter(
            tuple(kinds or ()), None if log_doc in (ANY, None) else int(log_doc),
            int(number) - 1 if number.isdecimal() and len(number) < 12 else None,
        ),
        int(log_page or 1),
    )  # fmt: skip


def top(visit: Visit, look: Look) -> list[Any]:
    """Return headline, map, what happened at the moment, and the chosen chunk's life."""
    timeline = looking.timeline(visit)
    return [
        bank_line(visit) if visit.emptied else life.head(timeline, look.step),
        map_update(visit.maps, MAP, timeline, look),
        life.moment(timeline, look.step, visit),
        life.life_html(looking.life(visit, look, at_once=True), timeline, look.chunk_id),
    ]


def details(visit: Visit, look: Look) -> list[Any]:
    """Return both plots, the table with its words and page, the log with its words and page, and the whole life."""
    timeline, documents = looking.timeline(visit), looking.documents(visit)
    every = chunks.chunk_rows(timeline, look.step)
    rows, row_words, page = looking.rows(visit, look, every)
    events, log_words, log_page = looking.log(visit, look)
    return [
        plots.occupancy(timeline.fills, look.step, timeline.stops[-1] if timeline.stops else None),
        plots.trigger_counts(chunks.trigger_histogram(every)),
        chunks.table(rows, documents), _page_line(row_words), page,
        log.log_table(events, timeline, documents), _page_line(log_words), log_page, whole_life(visit, look),
    ]  # fmt: skip


def whole_life(visit: Visit, look: Look) -> Any:
    """Return the chosen chunk's life with whether it would have been needed later, where :func:`top` left that open."""
    found = looking.life(visit, look)
    return life.life_html(found) if found is not None and found.later else gr.skip()


def first_of(visit: Visit, look: Look, question: str | None = None) -> list[Any]:
    """Return slider, jumps, questions, documents twice, and all that :func:`top` returns.

    The chosen ``question`` stays, as long as it is one; else the newest is chosen.
    """
    timeline = looking.timeline(visit)
    last = max(1, len(timeline.stops) - 1)
    position = last if look.step is None else timeline.position_of(look.step)
    jumps = [(one_line(mark.words, 80), mark.step) for mark in timeline.landmarks]
    asked = looking.questions(visit)
    known = [("any document", ANY), *((one_line(title, 60), doc_id) for doc_id, title in timeline.titles.items())]
    filtered = look.rows.doc_id, look.log.doc_id
    return [
        gr.Slider(maximum=last, value=position),
        gr.Dropdown(choices=jumps),
        # What is chosen is not sent back: by then the visitor may have chosen another.
        gr.Dropdown(choices=asked, **({} if question in asked else {"value": asked[0] if asked else None})),
        # A filter of before another model was loaded names a document that memory knows no longer.
        *(gr.Dropdown(choices=known, value=each if each in timeline.titles else ANY) for each in filtered),
        *top(visit, look),
    ]


def done(visit: Visit, what: str, chunk_id: int) -> str:
    """Do what a button of a chunk's life says; returns what came of it as HTML."""
    try:
        return f'<p class="ml-line" role="status">{escape(looking.act(visit, what, chunk_id))}</p>'
    except MemLongError as error:
        return error_box(error)


def compare(visit: Visit, question: str | None, chunk_id: int | None) -> Iterator[str]:
    """Ask again and yield both answers side by side, as HTML, while the new one grows."""
    try:
        for before, after in looking.ask_again(visit, question):
            yield life.comparison(before, after, chunk_id)
    except MemLongError as error:
        yield error_box(error)


def _page_line(said: str) -> str:
    return f'<p class="ml-line">{escape(said)}</p>'
