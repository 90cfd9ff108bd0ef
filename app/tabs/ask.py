"""The Ask tab: a streaming conversation about what was read, with the evidence of every answer beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import asking
from app.context import App
from app.exports import CONVERSATIONS, conversation_file
from app.sessions import Exchange, Visit
from app.tabs import ask_controls
from app.tabs import evidence as pane
from app.tabs.ask_controls import documents_menu, options
from app.tabs.pieces import CLICKS, bank_line, error_box, for_chat, from_chat, suggestions
from app.tabs.saving import Saver, saver
from app.text import one_line
from memlong.config import AskOptions
from memlong.errors import MemLongError

TITLE = "Ask"
PLACEHOLDER = "Ask about what was read.\n\nThe answer is written here; the chunks it came from appear beside it."
READ_FIRST = "Take a sample or add a document on the tab Read, then ask about it here."
# Brings the passage, and in it the answer's own words, into view inside its pane, and the pane into view where it lies
# below the fold. When the pane changes its width, as when a phone is turned, lines break elsewhere: then once more.
_SHOW_PASSAGE = (
    CLICKS
    + """
const sizes = new ResizeObserver(([seen]) => {
  const paper = seen.target, width = paper.clientWidth;
  if (width && String(width) !== paper.dataset.width) show(paper);
});
const show = (paper) => {
  const top = paper.getBoundingClientRect().top;
  const begins = paper.querySelector('#passage').getBoundingClientRect().top - top - 60;
  const own = paper.querySelector('.ml-own');
  const ends = own ? own.getBoundingClientRect().bottom - top - paper.clientHeight + 90 : begins;
  paper.scrollTop += Math.max(begins, ends);
  paper.dataset.width = paper.clientWidth;
};
watch('value', () => {
  const mark = element.querySelector('#passage');
  if (!mark) return;
  const paper = mark.closest('.ml-paper');
  show(paper);
  sizes.disconnect();
  sizes.observe(paper);
  const box = element.getBoundingClientRect();
  if (box.top < 0 || box.top > window.innerHeight - 160) element.scrollIntoView({block: 'start'});
  paper.focus({preventScroll: true});
});
"""
)
# The conversation follows a growing answer only while its end is in view: whoever scrolled up to an earlier answer and
# asks from there would see neither the question nor what comes of it.
_TO_THE_END = """() => {
  const said = document.querySelector('#chat .bubble-wrap');
  if (said) said.scrollTo({top: said.scrollHeight, behavior: 'instant'});
}"""


@dataclass
class Parts:
    """Components of the tab that events or other tabs need.

    Attributes:
        controls: in the order of :func:`app.tabs.ask_controls.options`.
        changed: events after which memory is another; other tabs hang their own redrawing on them.
    """

    tab: gr.Tab
    bank: gr.HTML
    chat: gr.Chatbot
    notice: gr.HTML
    suggest: gr.HTML
    question: gr.Textbox
    send: gr.Button
    stop: gr.Button
    controls: list[Any]
    exports: dict[str, Saver]
    clear: gr.Button
    evidence: gr.HTML
    reader: gr.HTML
    changed: list[Any]

    @property
    def view(self) -> list[Any]:
        """What every step of an answer redraws, in the order of :func:`picture`."""
        return [self.chat, self.notice, self.evidence, self.bank, self.suggest, self.stop]


def build(app: App) -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``."""
    with gr.Tab(TITLE, id="ask", elem_id="tab-ask") as tab, gr.Row(equal_height=False, elem_classes="ml-columns"):
        with gr.Column(scale=6, min_width=320):
            bank = gr.HTML(bank_line(None, READ_FIRST), elem_id="ask-bank")
            chat = _chat()
            notice = gr.HTML("", elem_id="ask-notice")
            suggest = gr.HTML("", js_on_load=CLICKS, elem_id="ask-questions")
            with gr.Row(elem_classes="ml-actions", equal_height=True):
                question = gr.Textbox(
                    label="Question",
                    show_label=False,
                    placeholder="Your question",
                    lines=1,
                    max_lines=5,
                    scale=6,
                    container=False,
                    elem_id="question",
                    autofocus=False,
                )
                send = gr.Button("Ask", variant="primary", elem_id="send", scale=0, min_width=84)
                stop = gr.Button("Stop", elem_id="stop-answer", scale=0, min_width=84, interactive=False)
            controls = ask_controls.build()
            with gr.Row(elem_classes="ml-actions"):
                exports = {kind: saver(f"Save as {words}", f"save-{kind}") for kind, words in CONVERSATIONS.items()}
                clear = gr.Button("Clear conversation", elem_id="clear-chat", size="sm", scale=0, min_width=170)
        with gr.Column(scale=5, min_width=320):
            gr.HTML('<h2 class="ml-h2">Evidence</h2>', elem_classes="ml-head")
            found = gr.HTML(pane.evidence(None), js_on_load=CLICKS, elem_id="evidence")
            reader = gr.HTML(pane.no_passage(), js_on_load=_SHOW_PASSAGE, elem_id="reader")
    return Parts(tab, bank, chat, notice, suggest, question, send, stop, controls, exports, clear, found, reader, [])


def _chat() -> gr.Chatbot:
    """Nothing in it is rendered: no Markdown, no LaTeX, no HTML (see ``for_chat``). What a document says stays text."""
    return gr.Chatbot(
        show_label=False,
        label="Conversation",
        elem_id="chat",
        height="min(58vh, 560px)",
        layout="bubble",
        render_markdown=False,
        sanitize_html=True,
        allow_tags=False,
        latex_delimiters=[],
        line_breaks=False,
        buttons=["copy", "copy_all"],
        editable="user",
        placeholder=PLACEHOLDER,
        group_consecutive_messages=False,
    )


def wire(app: App, parts: Parts) -> None:
    """Connect the events. Asking is a generator that takes turns; Stop is a flag that never waits."""
    long: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": None,
        "trigger_mode": "multiple",
        "api_visibility": "private",
    }
    quick = long | {"queue": False}
    out = [*parts.view, parts.question]

    def send(request: gr.Request, question: str, *controls: Any) -> Iterator[list[Any]]:
        yield from pictures(app.visit(request), question, options(*controls))

    def retry(request: gr.Request, event: gr.RetryData, *controls: Any) -> Iterator[list[Any]]:
        yield from again(app.visit(request), event.index, None, controls)

    def edit(request: gr.Request, event: gr.EditData, *controls: Any) -> Iterator[list[Any]]:
        yield from again(app.visit(request), event.index, from_chat(str(event.value)), controls)

    # The page works off what belongs to one click in this order: after the question it would wait for the whole answer.
    for asked in (parts.question.submit, parts.send.click, parts.suggest.click):
        asked(None, None, None, js=_TO_THE_END, **quick)
    parts.changed += [
        parts.question.submit(send, [parts.question, *parts.controls], out, **long),
        parts.send.click(send, [parts.question, *parts.controls], out, **long),
        parts.suggest.click(suggested(app), parts.controls, out, **long),
        parts.chat.retry(retry, parts.controls, out, **long),
        parts.chat.edit(edit, parts.controls, out, **long),
    ]
    _wire_looking(app, parts, quick)


def suggested(app: App) -> Callable[..., Iterator[list[Any]]]:
    """Return the handler of a click on a suggested question, which asks it; it takes the controls."""

    def take(request: gr.Request, event: gr.EventData, *controls: Any) -> Iterator[list[Any]]:
        yield from pictures(app.visit(request), str(event._data["id"]), options(*controls))

    return take


def _wire_looking(app: App, parts: Parts, quick: dict[str, Any]) -> None:
    def stop(request: gr.Request) -> list[Any]:
        visit = app.visit(request)
        asking.stop(visit)
        # Two outputs: a button alone does not show that it works. What was being answered disables it when it ends.
        return [gr.skip(), gr.skip() if visit.answering else gr.Button(interactive=False)]

    def like(request: gr.Request, event: gr.LikeData) -> None:
        asking.like(app.visit(request), exchange_of(event.index), {True: True, False: False}.get(event.liked))

    def choose(request: gr.Request, event: gr.SelectData) -> str:
        visit = app.visit(request)
        visit.shown = exchange_of(event.index)
        return pane.evidence(visit)

    def look(request: gr.Request, event: gr.EventData) -> list[Any]:
        return look_at(app.visit(request), event._data)

    def look_among_gone(request: gr.Request) -> Any:
        return pane.among_gone(app.visit(request)) or gr.skip()

    def clear(request: gr.Request) -> list[Any]:
        return cleared(app.visit(request))

    def arrive(request: gr.Request, ticked: list[int] | None) -> list[Any]:
        visit = app.visit(request)
        return [*picture(visit), documents_menu(visit, ticked or ())]

    parts.stop.click(stop, None, [parts.evidence, parts.stop], **quick)
    parts.chat.like(like, None, None, **quick)
    parts.chat.select(choose, None, parts.evidence, **quick)
    looked = parts.evidence.click(look, None, [parts.evidence, parts.reader], **quick)
    looked.then(look_among_gone, None, parts.evidence, **quick | {"queue": True})
    parts.reader.click(look, None, [parts.evidence, parts.reader], **quick)
    for wiped in (parts.clear.click, parts.chat.clear):  # the chatbot's own bin empties only what is shown
        wiped(clear, None, [*parts.view, parts.reader], **quick)
    parts.tab.select(arrive, parts.controls[1], [*parts.view, parts.controls[1]], **quick)
    for kind, each in parts.exports.items():
        each.on_click(_saving(app, kind), parts.evidence)


def _saving(app: App, kind: str) -> Callable[[gr.Request], str]:
    def save(request: gr.Request) -> str:
        return str(conversation_file(app.visit(request), kind))

    return save


def pictures(visit: Visit, question: str, chosen: AskOptions) -> Iterator[list[Any]]:
    """Ask, and yield the tab as it looks after every step; the last one is complete."""
    drawn: tuple[Any, ...] | None = None
    if visit.answering and visit.exchanges and (question or "").strip() in ("", visit.exchanges[-1].question):
        yield _nothing(visit)  # the second click of two, for which the box is full or empty by now
        return
    try:
        for exchange in asking.ask(visit, question, chosen):
            # A redraw takes the keyboard focus from the list, so evidence is sent only when it is another list.
            listed = tuple(item.chunk_id for item in exchange.evidence)
            values = picture(visit, with_evidence=listed != drawn)
            # The question box may hold another question by now, one that was refused: it is emptied once.
            yield [*values, "" if drawn is None else gr.skip()]
            drawn = listed
    except MemLongError as error:
        visit.refused = error
    yield [*picture(visit), gr.skip()]


def again(visit: Visit, index: Any, question: str | None, controls: tuple[Any, ...]) -> Iterator[list[Any]]:
    """Take an exchange back and ask it again, changed or not; with another seed, so that sampling differs."""
    newest = len(visit.exchanges) - 1
    if visit.answering and exchange_of(index) >= newest and (not question or question == visit.exchanges[-1].question):
        yield _nothing(visit)  # the second click of two: what the first asked is being answered
        return
    try:
        if question is not None:
            asking.refuse(visit, question, options(*controls))  # before the old one is gone
        earlier = asking.take_back(visit, exchange_of(index))
    except MemLongError as error:
        visit.refused = error
        yield [*picture(visit), gr.skip()]
        return
    visit.retries += 1
    yield from pictures(visit, question or earlier, options(*controls, seed=visit.retries))


def cleared(visit: Visit) -> list[Any]:
    """Forget the conversation; returns the view and the reader pane, or why it stays."""
    try:
        asking.clear(visit)
    except MemLongError as error:
        visit.refused = error
        return [*picture(visit), gr.skip()]
    return [*picture(visit), pane.no_passage()]


def picture(visit: Visit, with_evidence: bool = True) -> list[Any]:
    """Return the values of :attr:`Parts.view`: messages, notice, evidence, bank, questions, Stop.

    Why a question was refused is said until one is taken: also when the answer it had to wait for ends.
    """
    last = visit.exchanges[-1] if visit.exchanges else None
    notice = (error_box(visit.refused) if visit.refused else "") + (pane.notices(last) if last else "")
    suggested = "" if visit.answering else suggestions(_unasked(visit), "Try:")
    evidence = pane.evidence(visit) if with_evidence else gr.skip()
    bank, stop = bank_line(visit, READ_FIRST), gr.Button(interactive=visit.answering)
    return [messages(visit), notice, evidence, bank, suggested, stop]


def _nothing(visit: Visit) -> list[Any]:
    """Return what leaves the view and the question box as they are."""
    return [gr.skip()] * (len(picture(visit, with_evidence=False)) + 1)


def messages(visit: Visit) -> list[dict[str, str]]:
    """Return the conversation as gradio's chatbot takes it: two messages an exchange."""
    said = []
    for exchange in visit.exchanges:
        said.append({"role": "user", "content": for_chat(exchange.question)})
        said.append({"role": "assistant", "content": for_chat(_shown(visit, exchange))})
    return said


def _shown(visit: Visit, exchange: Exchange) -> str:
    if exchange.error is not None:
        return str(exchange.error)
    steps = "".join(f"\u21b3 {question} {found or '...'}\n" for question, found in exchange.asked_first)
    if exchange.reworded and not steps:
        steps = f"\u21b3 Asked as: {one_line(exchange.reworded, 200)}\n"
    if steps and not exchange.text and exchange.answer is None:
        return steps
    if exchange.answer is not None and exchange.answer.stopped_in_steps:
        return steps + "(Stopped before the question itself was asked.)"
    if exchange.text or exchange.answer is not None:
        return steps + (exchange.text or "(The model ended its answer without a word.)")
    if exchange.cut:
        return "(The page was closed before an answer began.)"
    state = visit.engine.state
    return "Searching memory ..." if state.ready else f"Loading model {state.share:.0%}. The question waits for it."


def _unasked(visit: Visit) -> list[str]:
    asked = {exchange.question for exchange in visit.exchanges}
    return [question for question in visit.shelf.questions if question not in asked][:3]


def look_at(visit: Visit, data: dict[str, Any]) -> list[Any]:
    """Do what a button in the evidence or the reader pane says; returns both."""
    act, number, of = data.get("act"), str(data.get("id", "")), str(data.get("of", ""))
    if act == "answer":
        visit.shown = int(number)
        return [pane.evidence(visit), gr.skip()]
    if act == "close":
        return [gr.skip(), pane.no_passage()]
    if act == "missed" and 0 <= int(number) < len(visit.exchanges):
        visit.exchanges[int(number)].looking = "asked"
        return [pane.evidence(visit), gr.skip()]
    if act in ("open", "more"):
        index, around, step = (int(part or 0) for part in (*of.split("/"), "", "")[:3])
        try:
            item = asking.find_evidence(visit, index, int(number), step)
        except MemLongError as error:
            return [gr.skip(), error_box(error)]
        text = asking.document_text(visit, item.doc_id)
        step, said = asking.said_with(visit.exchanges[index], item)
        return [gr.skip(), pane.passage(item, text, around or pane.AROUND, (index, step), said)]
    return [gr.skip(), gr.skip()]


def exchange_of(index: Any) -> int:
    """Return the exchange that a message of the chatbot belongs to: every exchange has two messages."""
    position = index[0] if isinstance(index, list | tuple) else index
    return int(position) // 2
