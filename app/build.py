"""The page: header, tabs, and what runs when pages come and go."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import gradio as gr

from app import api, reading
from app.context import App
from app.sessions import Visit
from app.tabs import ask, ask_controls, attention, lab, memory, read, settings, settings_page, train
from app.tabs.memory_map import clicked
from app.tabs.pieces import engine_line, error_box
from memlong.errors import Cancelled, MemLongError

HEADER = (
    '<header class="ml-top"><h1>Ask a book</h1><p>A small language model reads a long text piece by piece, keeps what '
    "it read in a memory, and answers from it. You see which pieces it found, how much it looked at them, and which "
    "it let go.</p></header>"
)
NAME = "MemLong"
# Seconds between two looks at what was sent and saved, and the age at which it goes: nobody opens a file twice.
FILES_STAY = (600, 3600)
# Seconds between two looks for a waiting event. gradio's own, a thousand looks a second, takes 7 % of a core for ever,
# from answering as much as from a battery; nobody notices a hundredth of a second.
QUEUE_LOOKS = 0.01
STREAM, ARRIVAL, KEYBOARD, FIGURES = (
    Path(__file__).with_name(f"{name}.js") for name in ("stream", "arrival", "keyboard", "figures")
)


def build(app: App) -> gr.Blocks:
    """Return the whole page. The engine may still be loading, and need not have begun."""
    with gr.Blocks(title=NAME, analytics_enabled=False, fill_width=True, delete_cache=FILES_STAY) as page:
        gr.HTML(HEADER, elem_id="top")
        with gr.Tabs(elem_id="tabs") as tabs:
            tabs_in_order = {"read": read, "ask": ask, "memory": memory, "attention": attention, "lab": lab}
            tabs_in_order |= {"train": train, "settings": settings}
            parts = {name: tab.build(app) for name, tab in tabs_in_order.items()}
        read.wire(app, parts["read"], tabs)
        ask.wire(app, parts["ask"])
        memory.wire(app, parts["memory"])
        attention.wire(app, parts["attention"])
        lab.wire(app, parts["lab"])
        settings.wire(app, parts["settings"])
        settings_page.connect(app, page, tabs, parts, train.wire(app, parts["train"]))
        _wire_between(app, parts, tabs)
        _wire_visits(app, page, parts["read"], parts["ask"])
        _wire_api(app, page)
    for handler in page.fns.values():
        handler.fn = handler.fn and in_plain_words(handler.fn)
    page.queue(default_concurrency_limit=None, max_size=64, api_open=False)
    page._queue.sleep_when_free = QUEUE_LOOKS
    return page


def in_plain_words(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler whose refusals reach people and programs as they are, and leave no traceback in the log."""
    if inspect.isgeneratorfunction(handler):  # gradio asks the same

        @wraps(handler)
        def steps(*given: Any, **named: Any) -> Iterator[Any]:
            with _refusals():
                yield from handler(*given, **named)

        return steps

    @wraps(handler)
    def once(*given: Any, **named: Any) -> Any:
        with _refusals():
            return handler(*given, **named)

    return once


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except MemLongError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except Cancelled as error:  # the page is gone: nobody is there to be told
        raise gr.Error(str(error), visible=False, print_exception=False) from error


def _wire_between(app: App, parts: dict[str, Any], tabs: gr.Tabs) -> None:
    """A question on the Read tab is asked on the tab Ask, and a cell of its map leads to a life on the tab Memory; a
    passage on the tab Ask leads to its chunk's life and its layers."""
    first, second, third, fourth = (parts[name] for name in ("read", "ask", "memory", "attention"))
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

    def to_ask() -> Any:
        return gr.Tabs(selected="ask")

    # In this order: the page works off one click's events one after another.
    first.view[3].click(to_ask, None, tabs, **quick)
    asked = first.view[3].click(
        ask.suggested(app), second.controls, [*second.view, second.question], show_progress="hidden",
        concurrency_limit=None, trigger_mode="multiple", api_visibility="private",
    )  # fmt: skip
    second.changed.append(asked)

    def show(request: gr.Request) -> list[Any]:
        return ask.picture(app.visit(request))

    third.changed[1].then(show, None, second.view, show_progress="hidden", api_visibility="private")

    def follow(request: gr.Request, event: gr.EventData) -> list[Any]:
        act, number = event._data["act"], event._data.get("id")
        if act == "life":
            return [gr.Tabs(selected="memory"), int(number), gr.skip(), gr.skip()]
        if act == "layers":
            visit = app.visit(request)
            menu, answer_id = attention.menu_of(visit, int(number), int(event._data["of"]))
            return [gr.Tabs(selected="attention"), gr.skip(), menu, answer_id]
        return [gr.skip()] * 4

    def open_life(event: gr.EventData) -> list[Any]:
        return [gr.Tabs(selected="memory"), clicked(event), gr.skip()]

    for pane in (second.reader, second.evidence):
        pane.click(follow, None, [tabs, third.chunk, fourth.looks[0], fourth.picked], **quick)
    first.view[2].click(open_life, None, [tabs, third.chunk, first.view[1]], **quick)


def _wire_visits(app: App, page: gr.Blocks, parts: read.Parts, asking: ask.Parts) -> None:
    """Show loading until it ends; give a page that was loaded again what it had; note when it closes."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    timer = gr.Timer(1.0)
    ticket = gr.Textbox(visible=False, elem_id="ticket")
    of_memory = [*parts.view, parts.capacity, parts.policy, *asking.view, asking.controls[1]]

    def come(request: gr.Request, brought: str) -> list[Any]:
        try:
            visit = app.visits.claim(str(request.session_hash), brought or "")
        except MemLongError:  # the house is full: the timer says so
            return [gr.skip()] * len(of_memory)
        return as_it_was(visit)

    def go_on(request: gr.Request) -> Iterator[list[Any]]:
        visit = app.visit(request)
        if visit.reading or visit.interrupted:
            yield from read.pictures(app, request, reading.go_on)
        else:
            yield [gr.skip()] * (len(parts.view) + 1)

    def tick(request: gr.Request) -> list[Any]:
        state = app.engine.state
        if not (state.ready or state.error):
            return [engine_line(app.engine), gr.skip(), gr.skip()]
        try:
            visit = app.visit(request)
        except MemLongError as error:  # the house is full: it is said, and tried again
            return [error_box(error), gr.skip(), gr.skip()]
        for item in visit.shelf:
            if item.state == "waiting" and item.estimate is None:
                reading.estimate(visit, item)
        # Of a page that was loaded again nothing is known before it has claimed its place: what it then gets must not
        # be emptied by a look from before, which may reach the page later.
        return [engine_line(app.engine), read.shelf(visit) if visit.shelf else gr.skip(), gr.Timer(active=False)]

    def leave(request: gr.Request) -> None:
        app.visits.leave(str(request.session_hash))

    # A tick may estimate a long text, which takes turns: it must not hold up those of other visitors.
    timer.tick(tick, None, [parts.engine, parts.view[0], timer], concurrency_limit=None, **quiet)
    page.load(None, None, None, js=STREAM.read_text("utf-8"), **quiet)  # before anything is asked of the queue
    came = page.load(come, ticket, of_memory, js=ARRIVAL.read_text("utf-8"), queue=False, **quiet)
    came.then(go_on, None, [*parts.view, parts.said], concurrency_limit=None, **quiet)
    page.load(None, None, None, js=KEYBOARD.read_text("utf-8"), **quiet)
    for script in Path(gr.__file__).parent.glob("templates/frontend/assets/PlotlyPlot-*.js"):
        page.load(None, None, None, js=FIGURES.read_text("utf-8").replace("SCRIPT", script.name), **quiet)
    page.unload(leave)


def as_it_was(visit: Visit) -> list[Any]:
    """Return the tabs Read and Ask as a visitor's earlier page showed them: views, bank controls, documents to ask."""
    bank = [visit.engine.settings.capacity, visit.engine.settings.policy]
    if visit.session is not None:
        bank = [visit.session.config.capacity_tokens, visit.session.config.policy]
    if visit.blank:
        return [*[gr.skip()] * len(read.picture(visit)), *bank, *[gr.skip()] * (len(ask.picture(visit)) + 1)]
    reading.refresh_reports(visit)
    for exchange in visit.exchanges:
        exchange.looking = ""  # for what had left: the page that asked is gone
    return [*read.picture(visit), *bank, *ask.picture(visit), ask_controls.documents_menu(visit, ())]


def _wire_api(app: App, page: gr.Blocks) -> None:
    """Offer the same work to programs, with plain values. A function's name is that of the endpoint and of the tool."""
    folder = Path(gr.utils.get_upload_folder()).resolve()

    def visit(request: gr.Request) -> Visit:
        return app.visits.get(api.session_key(request.session_hash, request.headers, app.settings))

    def upload(request: gr.Request, file: gr.FileData) -> dict[str, Any]:
        """Add a document and read it into the memory of this client's session; returns what came of it.

        Args:
            file: txt, md, pdf, epub, docx or html, sent to this app before, or as a data: address
        """
        return api.upload(app, visit(request), file, folder)

    def ask(
        request: gr.Request, question: str, answer_from: str = "memory", top_k: int = 0, max_tokens: int = 64
    ) -> dict[str, Any]:
        """Answer a question from what this client uploaded; returns the answer with its evidence.

        Args:
            question: in words
            answer_from: memory, passages (in the prompt), both, or nothing
            top_k: chunks to retrieve; 0 takes the model's own number
            max_tokens: length of the answer at most
        """
        return api.ask(visit(request), question, answer_from, top_k, max_tokens)

    def memory_state(request: gr.Request) -> dict[str, Any]:
        """Return what the memory of this client's session holds: capacity, policy, documents, chunks."""
        return api.memory_state(visit(request))

    def trace(request: gr.Request, since: int = 0) -> list[dict[str, Any]]:
        """Return the events of this client's session: chunks written, retrieved and evicted, attention by layer.

        Args:
            since: the step to begin with
        """
        return api.trace(visit(request), since)

    def compare(request: gr.Request, question: str, top_k: int = 0, max_tokens: int = 64) -> dict[str, Any]:
        """Answer a question from memory, passages, both and nothing, with one retriever and one seed.

        Args:
            question: in words
            top_k: chunks to retrieve; 0 takes the model's own number
            max_tokens: length of each answer at most
        """
        return api.compare(visit(request), question, top_k, max_tokens)

    def policies(request: gr.Request) -> dict[str, Any]:
        """Replay what this client read and asked under every eviction policy, without the language model."""
        return api.policies(visit(request))

    for function in (upload, ask, memory_state, trace, compare, policies):
        # Hints are text in this file, and gradio takes the one of what comes back as it stands.
        function.__annotations__ = get_type_hints(function)
        gr.api(function, api_name=function.__name__, concurrency_limit=None)
    _take_own_uploads(page, folder)


def _take_own_uploads(page: gr.Blocks, folder: Path) -> None:
    """Let ``upload`` take the address of a file that was sent to this app, and fetch no other one.

    MCP clients send a file first and then name its address; gradio would ask the network for it, and refuses an
    address of this very machine.
    """
    (file,) = next(fn.inputs for fn in page.fns.values() if fn.api_name == "upload")
    keep = file.async_move_resource_to_block_cache

    async def take(given: str | Path | None) -> str | None:
        try:
            return await keep(api.own_upload(str(given or ""), folder))
        except MemLongError as error:
            raise gr.Error(str(error), print_exception=False) from error

    file.async_move_resource_to_block_cache = take
