"""The Read tab: take, drop or paste documents, see what reading will cost, read, stop, go on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import gradio as gr

from app import looking, reading
from app.context import App
from app.exports import document_archive
from app.rows.timeline import Timeline, timeline_of
from app.samples import samples
from app.sessions import Visit
from app.shelf import Item
from app.tabs import oversize
from app.tabs.cards import sample_cards, shelf
from app.tabs.memory_map import map_update, memory_map
from app.tabs.pieces import CLICKS, bank_line, engine_line, error_box, is_error, suggestions
from app.text import plural
from memlong.bank.eviction import POLICIES
from memlong.errors import DocumentError, MemLongError

TITLE = "Read"
POLICY_WORDS = {
    "trigger_count": "Fewest triggers first (trigger_count)",
    "trigger_bands": "Bands by age and triggers, as in the paper (trigger_bands)",
    "fifo": "Oldest first (fifo)",
    "lru": "Longest unused first (lru)",
    "decayed_count": "Fewest recent triggers first (decayed_count)",
}
NEXT_WORDS = "Ask about it:"


@dataclass
class Parts:
    """Components of the tab that events or other tabs need.

    Attributes:
        added, pasted, said: what is wrong with samples and files, with a pasted text, with reading.
        view: what every step of reading redraws, in the order of :func:`picture`.
        changed: events after which memory is another; other tabs hang their own redrawing on them.
    """

    tab: gr.Tab
    samples: gr.HTML
    files: gr.File
    text: gr.Textbox
    title: gr.Textbox
    add: gr.Button
    read: gr.Button
    stop: gr.Button
    engine: gr.HTML
    added: gr.HTML
    pasted: gr.HTML
    said: gr.HTML
    view: list[Any]
    capacity: gr.Number
    policy: gr.Dropdown
    apply: gr.Button
    bank_said: gr.HTML
    export: gr.DownloadButton
    changed: list[Any]


def build(app: App) -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``."""
    with gr.Tab(TITLE, id="read", elem_id="tab-read") as tab, gr.Row(equal_height=False, elem_classes="ml-columns"):
        with gr.Column(scale=6, min_width=320):
            gr.HTML('<h2 class="ml-h2">1. Choose what to read</h2>', elem_classes="ml-head")
            chosen = gr.HTML(sample_cards(samples()), js_on_load=CLICKS, elem_id="samples")
            files = gr.File(
                label="Files: txt, md, pdf, epub, docx, html",
                file_count="multiple",
                type="filepath",
                elem_id="upload",
                height=140,
            )
            added = gr.HTML("", elem_id="added-said")
            with gr.Accordion("Or paste a text", open=False, elem_id="paste"):
                title = gr.Textbox(label="Title (optional)", max_lines=1, elem_id="paste-title")
                text = gr.Textbox(label="Text", lines=6, max_lines=14, elem_id="paste-text")
                add = gr.Button("Add this text", elem_id="paste-add")
                pasted = gr.HTML("", elem_id="paste-said")
            gr.HTML('<h2 class="ml-h2">2. Read it into memory</h2>', elem_classes="ml-head")
            engine = gr.HTML(engine_line(app.engine), elem_id="engine")
            said = gr.HTML("", elem_id="read-said")
            with gr.Row(elem_classes="ml-actions"):
                read = gr.Button("Read all", variant="primary", elem_id="read", scale=0, min_width=140)
                stop = gr.Button("Stop", elem_id="stop-reading", scale=0, min_width=100, interactive=False)
            heard = _CARD_CLICKS + _SHOW_PROGRESS + oversize.watch(reading.limits_of(app.settings).file_bytes)
            cards = gr.HTML(shelf(None), js_on_load=heard, elem_id="shelf")
            export = gr.DownloadButton("Download the export", elem_id="export-file", visible="hidden")
        with gr.Column(scale=5, min_width=320):
            gr.HTML('<h2 class="ml-h2">3. Watch the memory fill</h2>', elem_classes="ml-head")
            bank = gr.HTML(bank_line(None), elem_id="bank-line")
            live = memory_map("live-map")
            ask = gr.HTML("", js_on_load=CLICKS, elem_id="read-questions")
            capacity, policy, apply, bank_said = _bank_controls(app)
    return Parts(
        tab,
        chosen,
        files,
        text,
        title,
        add,
        read,
        stop,
        engine,
        added,
        pasted,
        said,
        [cards, bank, live, ask, stop],
        capacity,
        policy,
        apply,
        bank_said,
        export,
        [],
    )


def _bank_controls(app: App) -> tuple[gr.Number, gr.Dropdown, gr.Button, gr.HTML]:
    with gr.Accordion("The bank: how much it holds, and who leaves first", open=False, elem_id="bank-settings"):
        capacity = gr.Number(
            app.settings.capacity,
            label="Capacity (tokens)",
            precision=0,
            elem_id="capacity",
            info="A small bank overflows: chunks leave, and you can watch which. Applies at once.",
        )
        names = [(POLICY_WORDS.get(name, name), name) for name in POLICIES]
        policy = gr.Dropdown(
            names,
            value=app.settings.policy,
            label="Eviction policy",
            elem_id="policy",
            info="Who leaves when the bank is full. Pinned chunks never leave.",
        )
        apply = gr.Button("Apply", elem_id="bank-apply")
        said = gr.HTML("", elem_id="bank-said")
    return capacity, policy, apply, said


# Exports are a second event, because they alone have a file as their output.
_CARD_CLICKS = CLICKS.replace("trigger('click',", "trigger(hit.dataset.act === 'export' ? 'select' : 'click',")
# Whoever asks for a document to be read sees how far that is: on a phone its card lies below the samples, out of sight.
_SHOW_PROGRESS = """
let asked = false;
document.addEventListener('click', (event) => {
  const acts = '#samples [data-act], #read, #shelf :is([data-act=read], [data-act=resume], [data-act=again])';
  if (event.target.closest(acts)) asked = true;
}, true);
watch('value', () => {
  const of = (state) => [...element.querySelectorAll(`.ml-is-${state}`)].pop();
  const card = asked && (of('reading') ?? of('waiting'));  // it waits while the model is being loaded
  if (!card) return;
  asked = false;
  const box = card.getBoundingClientRect();
  if (box.top > window.innerHeight - 120 || box.bottom < 120) {
    card.scrollIntoView({block: window.innerWidth < 720 ? 'start' : 'nearest'});
  }
});
"""
_SAVE_FILE = """() => { setTimeout(() => {
  const e = document.querySelector('#export-file');
  (e?.matches('a,button') ? e : e?.querySelector('a,button'))?.click();
}, 400); }"""


def wire(app: App, parts: Parts, tabs: gr.Tabs) -> None:
    """Connect the events. Every long one is a generator that takes turns; Stop is a flag that never waits."""
    out = [*parts.view, parts.said]
    long: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": None,
        "trigger_mode": "multiple",
        "api_visibility": "private",
    }
    quick = long | {"queue": False}

    def take(request: gr.Request, paths: list[str] | None) -> Iterator[list[Any]]:
        # The box is emptied at once, not when the files are open: what it holds would come again with the next ones.
        emptied = chain([None], repeat(gr.skip()))
        for picture, box in zip(pictures(app, request, lambda visit: _take(visit, paths or [], app)), emptied):
            yield [*picture, box]

    def paste(request: gr.Request, text: str, title: str) -> Iterator[list[Any]]:
        yield from pictures(app, request, lambda visit: _paste(visit, text, title, app))

    def click(request: gr.Request, event: gr.EventData) -> Iterator[list[Any]]:
        data = event._data
        if data["act"] == oversize.ACT:
            kept_back = (str(data["id"]), int(data["of"]), reading.limits_of(app.settings))
            yield from pictures(app, request, lambda visit: iter([reading.refuse_large(visit, *kept_back)]))
        else:
            yield from pictures(app, request, lambda visit: act(visit, data["act"], data.get("id", "")))

    def read(request: gr.Request) -> Iterator[list[Any]]:
        yield from pictures(app, request, _read_waiting)

    def stop(request: gr.Request) -> list[Any]:
        visit = app.visit(request)
        reading.stop(visit)
        # Two outputs: a button alone does not show that it works. What was being read disables it when it ends.
        return [gr.skip(), gr.skip() if visit.reading else gr.Button(interactive=False)]

    def apply(request: gr.Request, capacity: float | None, policy: str) -> list[Any]:
        return set_bank(app, app.visit(request), capacity, policy)

    def whole_map(request: gr.Request) -> dict[str, Any]:
        visit = app.visit(request)
        visit.maps.pop("live-map", None)
        return map_update(visit.maps, "live-map", looking.timeline(visit))

    def export(request: gr.Request, event: gr.EventData) -> list[Any]:
        path = document_archive(app.visit(request), int(event._data["id"]))
        return [gr.DownloadButton(value=str(path)), gr.skip()]

    parts.changed += [
        parts.files.upload(take, parts.files, [*parts.view, parts.added, parts.files], **long),
        parts.add.click(paste, [parts.text, parts.title], [*parts.view, parts.pasted], **long),
        parts.samples.click(click, None, [*parts.view, parts.added], **long),
        parts.read.click(read, None, out, **long),
        parts.view[0].click(click, None, out, **long),
        parts.apply.click(apply, [parts.capacity, parts.policy], [*parts.view, parts.bank_said], **long),
    ]
    parts.changed[1].then(_emptied, parts.pasted, [parts.text, parts.title], **quick)
    parts.stop.click(stop, None, [parts.said, parts.stop], **quick)
    saved = parts.view[0].select(export, None, [parts.export, parts.said], **long)
    saved.then(None, None, None, js=_SAVE_FILE)
    parts.view[2].input(whole_map, None, parts.view[2], **quick)
    parts.view[0].click(_to_ask, None, tabs, **quick)


def _emptied(said: str) -> list[Any]:
    """Return the boxes of a pasted text after it was added; one that was refused stays, to be mended."""
    return [gr.skip(), gr.skip()] if is_error(said) else ["", ""]


def _to_ask(event: gr.EventData) -> Any:
    return gr.Tabs(selected="ask") if event._data.get("act") == "ask-tab" else gr.skip()


def pictures(
    app: App, request: gr.Request, work: Callable[[Visit], Iterator[Item | None]]
) -> Generator[list[Any], None, None]:
    """Do some work for a visitor and yield the tab as it looks after every step; errors are shown where it says so."""
    said = ""
    visit = None
    try:
        visit = app.visit(request)
        for _ in work(visit):
            yield [*picture(visit), ""]
    except MemLongError as error:
        said = error_box(error)
    yield [*(picture(visit) if visit else [gr.skip()] * 5), said]


def picture(visit: Visit) -> list[Any]:
    """Return the values of :attr:`Parts.view`: cards, bank, map, questions, Stop."""
    session = visit.session
    timeline = timeline_of(session.recorder) if session is not None else Timeline()
    questions = suggestions(visit.shelf.questions[:4], NEXT_WORDS)
    cells, stop = map_update(visit.maps, "live-map", timeline), gr.Button(interactive=visit.reading)
    return [shelf(visit), bank_line(visit), cells, questions, stop]


def act(visit: Visit, what: str, number: str) -> Iterator[Item | None]:
    """Do what a button on a card or a sample says. Raises MemLongError for what cannot be done."""
    if what == "sample":
        item = reading.add_sample(visit, number)
        yield item
        if item.state == "done":
            raise DocumentError(f"{item.title} was read already", "A text once", "Ask about it, or read it again below")
        yield from _read_new(visit, item)
    elif what in ("read", "resume"):
        yield from _read_new(visit, visit.shelf.get(int(number)))
    elif what == "again":
        item = reading.read_again(visit, int(number))
        yield item
        yield from _read_new(visit, item)
    elif what == "stop":
        reading.stop(visit)
    elif what == "remove":
        reading.remove(visit, int(number))
        yield None


def _read_waiting(visit: Visit) -> Iterator[Item | None]:
    if not visit.reading and visit.shelf.next_unread() is None:
        raise DocumentError("Nothing waits to be read", "Documents that were added", "Take a sample, a file or a text")
    yield from _read_new(visit)


def _read_new(visit: Visit, only: Item | None = None) -> Iterator[Item | None]:
    yield from reading.read_all(visit, only=only)
    reading.refresh_reports(visit)


def _take(visit: Visit, paths: list[str], app: App) -> Iterator[Item | None]:
    files = [(Path(path), Path(path).name) for path in paths]
    yield from reading.add_files(visit, files, reading.limits_of(app.settings))


def _paste(visit: Visit, text: str, title: str, app: App) -> Iterator[Item | None]:
    yield reading.add_text(visit, text, title, reading.limits_of(app.settings))


def set_bank(app: App, visit: Visit, capacity: float | None, policy: str) -> list[Any]:
    """Apply capacity and policy; returns the view and one line about what came of it."""
    try:
        gone = reading.set_bank(visit, int(capacity or 0), policy)
    except MemLongError as error:
        return [*picture(visit), error_box(error)]
    left = f"{plural(len(gone), 'chunk')} had to leave." if gone else "Nothing had to leave."
    return [*picture(visit), f'<p class="ml-line" role="status">Applied. {left}</p>']
