"""The Attention tab: for one answer and one of its tokens, which layer and head looked at which chunk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from app import asking, looking, shading
from app.context import App
from app.plots import attention as plots
from app.plots.style import how_to_read
from app.rows.attention import MEAN, MOST, Looked, answers, heads_recorded, layers_recorded, looked
from app.rows.chunks import Documents, title_of
from app.rows.timeline import Timeline
from app.rows.words import mass_words
from app.sessions import Visit
from app.tabs.attention_text import NOTHING_SHADED, answer_words, chunk_words
from app.tabs.pieces import CLICKS, error_box
from app.text import chunk_number, escape, one_line
from memlong.errors import MemLongError

TITLE = "Attention"
ALL = -1  # the choices "all tokens" and "all layers"
SHOW_EVERY = 0.25  # seconds between two pictures of a chunk's words
NOTHING = (
    '<div class="ml-empty"><strong>No answer to look into yet.</strong> Ask a question from memory in the tab Ask; '
    "then choose it here, and see which layers looked at which chunks.</div>"
)
NOT_RECORDED = (
    '<div class="ml-empty"><strong>No attention was recorded for this answer.</strong> It was not answered from '
    "memory, or memory was empty. Choose another answer, or ask again from memory.</div>"
)


@dataclass
class Parts:
    """Components of the tab that events or other tabs need.

    Attributes:
        looks: answer, token, head and layer, in the order of :func:`pictures`. view: what is redrawn, in its order.
        picked: the answer that the visitor chose, by its id; None while it is the newest.
        chunk, shade, stop, words: the words of one chunk.
    """

    tab: gr.Tab
    looks: list[Any]
    view: list[Any]
    chunk: gr.Dropdown
    shade: gr.Button
    stop: gr.Button
    words: gr.HTML
    picked: gr.State

    @property
    def everything(self) -> list[Any]:
        """All that depends on the answers there are, in the order of :func:`whole`."""
        return [*self.looks, self.chunk, *self.view]


def build(app: App) -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``."""
    del app
    with gr.Tab(TITLE, id="attention", elem_id="tab-attention") as tab:
        picked = gr.State(None)
        with gr.Row(elem_classes="ml-actions"):
            answer = gr.Dropdown([], value=None, label="Answer", elem_id="attention-answer", scale=4, min_width=260)
            token = gr.Dropdown(
                [("all tokens, mean", ALL)], value=ALL, label="Token", elem_id="attention-token", scale=2, min_width=240
            )
            head = gr.Dropdown(
                [("mean of all heads", MEAN)],
                value=MEAN,
                label="Head",
                elem_id="attention-head",
                scale=2,
                min_width=240,
            )
            layer = gr.Dropdown(
                [("all layers, mean", ALL)], value=ALL, label="Layer", elem_id="attention-layer", scale=2, min_width=240
            )
        said = gr.HTML(NOTHING, js_on_load=CLICKS, elem_id="attention-said")
        empty = np.zeros((0, 0))
        with gr.Row(equal_height=False, elem_classes="ml-columns"):
            heat = _plot(plots.layers_by_chunks(empty, [], []), "attention-heat")
            layers = _plot(plots.share_by_layer(empty, []), "attention-layers")
        with gr.Row(equal_height=False, elem_classes="ml-columns"):
            tokens = _plot(plots.share_by_token(empty, []), "attention-tokens")
            scatter = _plot(plots.score_against_mass([], [], []), "attention-scores")
        gr.HTML('<h2 class="ml-h2">Inside a chunk</h2>', elem_classes="ml-head")
        with gr.Row(elem_classes="ml-actions"):
            chunk = gr.Dropdown([], value=None, label="Chunk", elem_id="attention-chunk", scale=0, min_width=340)
            shade = gr.Button("Shade its words", variant="primary", elem_id="shade", scale=0, min_width=170)
            stop = gr.Button("Stop", elem_id="stop-shading", scale=0, min_width=84, interactive=False)
        words = gr.HTML(NOTHING_SHADED, elem_id="shaded")
    view = [said, heat, layers, tokens, scatter]
    return Parts(tab, [answer, token, head, layer], view, chunk, shade, stop, words, picked)


def _plot(empty: Any, elem_id: str) -> gr.Plot:
    with gr.Column(scale=1, min_width=320):
        plot = gr.Plot(empty, show_label=False, container=False, elem_id=elem_id)
        gr.HTML(f'<p class="mm-how-plot">{escape(how_to_read(empty))}</p>')
    return plot


def wire(app: App, parts: Parts) -> None:
    """Connect the events. The newest wish wins: while a picture is made, only the last of the next is kept."""
    latest: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}

    def arrive(request: gr.Request, picked: int | None, *looks: Any) -> list[Any]:
        visit = app.visit(request)
        visit.settle_layers()
        answer_id, token, head, layer = looks
        now = chosen(looking.timeline(visit), picked)
        return whole(visit, now, token if now == answer_id else ALL, head, layer)

    def other(request: gr.Request, answer_id: int | None, head: str | int, layer: int) -> list[Any]:
        visit = app.visit(request)
        visit.settle_layers()
        return [answer_id, *whole(visit, answer_id, ALL, head, layer), NOTHING_SHADED]

    def word(request: gr.Request, event: gr.EventData, answer_id: int | None, head: str | int, layer: int) -> list[Any]:
        token = int(event._data["id"])
        return [token, *pictures(app.visit(request), answer_id, token, head, layer)]

    def shade(request: gr.Request, answer_id: int | None, chunk_id: int | None, token: int) -> Iterator[list[Any]]:
        yield [gr.skip(), gr.Button(interactive=True)]  # the first words may take a while
        for words in shaded(app.visit(request), answer_id, chunk_id, token):
            yield [words, gr.skip()]
        yield [gr.skip(), gr.Button(interactive=False)]

    def stop(request: gr.Request) -> Any:
        asking.stop(app.visit(request))
        return gr.skip()  # an output, whatever comes of it: without one the page would not show that it works

    def draw(request: gr.Request, answer_id: int | None, token: int, head: str | int, layer: int) -> list[Any]:
        return pictures(app.visit(request), answer_id, token, head, layer)

    answer, token, head, layer = parts.looks
    parts.tab.select(arrive, [parts.picked, *parts.looks], parts.everything, **latest)
    answer.input(other, [answer, head, layer], [parts.picked, *parts.everything, parts.words], **latest)
    parts.shade.click(lambda answer_id: answer_id, answer, parts.picked, queue=False, **latest)
    parts.view[0].click(word, [answer, head, layer], [token, *parts.view], **latest)
    parts.shade.click(
        shade, [answer, parts.chunk, token], [parts.words, parts.stop], show_progress="hidden", concurrency_limit=None,
        trigger_mode="once", api_visibility="private",
    )  # fmt: skip
    parts.stop.click(stop, None, parts.words, queue=False, show_progress="hidden", api_visibility="private")
    for choice in parts.looks[1:]:
        choice.input(draw, parts.looks, parts.view, **latest)


def whole(visit: Visit, answer_id: int | None, token: int, head: str | int, layer: int) -> list[Any]:
    """Return menus and pictures for an answer, the values of :attr:`Parts.everything`."""
    menus = [*choices(visit, answer_id, token, head), layer_menu(visit, answer_id, layer)]
    return [*menus, chunk_menu(visit, answer_id), *pictures(visit, answer_id, token, head, layer)]


def anew(visit: Visit) -> list[Any]:
    """Return the values of :attr:`Parts.everything` with nothing chosen yet, and no words shaded."""
    return [*whole(visit, chosen(looking.timeline(visit), None), ALL, MEAN, ALL), NOTHING_SHADED]


def chosen(timeline: Timeline, answer_id: int | None) -> int | None:
    """Return the answer to show: the chosen one while it exists, else the newest whose attention was recorded."""
    rows = answers(timeline)
    if any(row.answer_id == answer_id for row in rows):
        return answer_id
    return next((row.answer_id for row in rows if row.recorded), rows[0].answer_id if rows else None)


def menu_of(visit: Visit, number: int, step: int = 0) -> tuple[gr.Dropdown, int | None]:
    """Return the menu of answers with that of the conversation's exchange ``number`` chosen, and its id.

    That is the newest where nothing was recorded of it. ``step``: of that answer, from 1, whose own answer is chosen.
    """
    answer = visit.exchanges[number].answer if 0 <= number < len(visit.exchanges) else None
    if answer is not None and 0 < step <= len(answer.steps):
        answer = answer.steps[step - 1]
    visit.settle_layers()
    chosen_id = chosen(looking.timeline(visit), answer.answer_id if answer else None)
    menu: gr.Dropdown = choices(visit, chosen_id, ALL, MEAN)[0]
    return menu, chosen_id


def choices(visit: Visit, answer_id: int | None, token: int, head: str | int) -> list[Any]:
    """Return the three menus for an answer; what was chosen stays chosen where it still exists."""
    timeline = looking.timeline(visit)
    asked = [
        (
            f"{timeline.number_of(row.answer_id)}. {one_line(row.question, 90)}"
            f"{'' if row.recorded else ' (not recorded)'}",
            row.answer_id,
        )
        for row in answers(timeline)
    ]
    look = looked(timeline, answer_id) if answer_id is not None else None
    texts = look.tokens if look else ()
    # Heads are the model's, not the answer's. A menu that lost them here would also refuse the second word of one
    # choice: gradio tells of it twice, and checks the chosen head against the menu as it is by then.
    n_heads = look.n_heads if look else heads_recorded(timeline)
    named = [(f"{place}. {one_line(text, 30) or repr(text)}", place - 1) for place, text in enumerate(texts, start=1)]
    heads: list[tuple[str, str | int]] = [("mean of all heads", MEAN)]
    if n_heads:
        heads += [("the head that looks most", MOST), *((f"head {head}", head) for head in range(n_heads))]
    return [
        gr.Dropdown(choices=asked, value=answer_id),
        gr.Dropdown(choices=[("all tokens, mean", ALL), *named], value=token if token < len(texts) else ALL),
        gr.Dropdown(choices=heads, value=head if any(head == value for _, value in heads) else MEAN),
    ]


def layer_menu(visit: Visit, answer_id: int | None, layer: int | None) -> gr.Dropdown:
    """Return the menu of an answer's layers; the chosen one stays where it still exists."""
    timeline = looking.timeline(visit)
    look = looked(timeline, answer_id) if answer_id is not None else None
    layers = look.layers if look else layers_recorded(timeline)
    named = [("all layers, mean", ALL), *((f"layer {each}", each) for each in layers)]
    return gr.Dropdown(choices=named, value=layer if layer in layers else ALL)


def pictures(
    visit: Visit, answer_id: int | None, token: int | None, head: str | int, layer: int | None = ALL
) -> list[Any]:
    """Return a sentence about the answer, heat map, shares by layer and by token, and the scatter.

    A chosen layer alone makes the words, the shares by token and the scatter; the others have all layers side by side.
    """
    timeline = looking.timeline(visit)
    look = looked(timeline, answer_id) if answer_id is not None else None
    if look is None:
        empty = np.zeros((0, 0))
        return [
            NOTHING if answer_id is None else NOT_RECORDED,
            plots.layers_by_chunks(empty, [], []), plots.share_by_layer(empty, []), plots.share_by_token(empty, []),
            plots.score_against_mass([], [], []),
        ]  # fmt: skip
    at = None if token in (None, ALL) or token >= len(look.tokens) else token
    stored = stored_layers(visit)
    names = [name_of(chunk_id, timeline, looking.documents(visit)) for chunk_id in look.chunk_ids]
    share_TL = look.memory_share(head)
    mass_LN = look.by_chunk(at, head)
    rows = [look.layers.index(layer)] if layer in look.layers else list(range(len(look.layers)))
    share_T, mass_N = share_TL[:, rows].mean(axis=1), mass_LN[rows].mean(axis=0)
    said = of_layer(look, at, head, names, rows[0]) if layer in look.layers else sentence(look, at, head, names)
    return [
        said + answer_words(look.tokens, share_T, at),
        plots.layers_by_chunks(mass_LN, look.layers, names, stored, whose(look, at, head)),
        plots.share_by_layer(share_TL.mean(axis=0) if at is None else share_TL[at], look.layers, stored),
        plots.share_by_token(share_T, look.tokens, at),
        plots.score_against_mass(look.scores.tolist(), mass_N.tolist(), names),
    ]


def chunk_menu(visit: Visit, answer_id: int | None) -> gr.Dropdown:
    """Return the menu of an answer's chunks, the one that got most attention first and chosen."""
    timeline = looking.timeline(visit)
    look = looked(timeline, answer_id) if answer_id is not None else None
    if look is None:
        return gr.Dropdown(choices=[], value=None)
    mass_N = look.by_chunk(None).mean(axis=0)
    documents = looking.documents(visit)
    found = [look.chunk_ids[place] for place in np.argsort(-mass_N, kind="stable")]
    return gr.Dropdown(choices=[(name_of(each, timeline, documents), each) for each in found], value=found[0])


def shaded(visit: Visit, answer_id: int | None, chunk_id: int | None, token: int) -> Iterator[str]:
    """Work out a chunk's words and yield them as HTML while they get their shade; the last one is complete."""
    shown, last = 0.0, None
    try:
        for last in shading.shade(visit, answer_id, chunk_id, None if token == ALL else token):
            if time.monotonic() - shown >= SHOW_EVERY:
                shown = time.monotonic()
                yield chunk_words(last, f"Chunk {chunk_number(int(chunk_id or 0))}")
    except MemLongError as error:
        yield error_box(error)
        return
    if last is not None:
        yield chunk_words(last, f"Chunk {chunk_number(int(chunk_id or 0))}")


def sentence(look: Looked, token: int | None, head: str | int, names: list[str]) -> str:
    """Return in words which chunk and which layer got most, as HTML."""
    mass_LN, share_L = look.by_chunk(token, head), look.memory_share(head)
    share_L = share_L.mean(axis=0) if token is None else share_L[token]
    best, layer = int(mass_LN.mean(axis=0).argmax()), int(share_L.argmax())
    there = int(mass_LN[:, best].argmax())
    shown = whose(look, token, head)
    return (
        f'<p class="ml-line" role="status">{escape(shown[0].upper() + shown[1:])}: '
        f"<strong>{mass_words(float(share_L.mean()))}</strong> of attention on memory. Most on "
        f"<strong>{escape(names[best])}</strong> ({mass_words(float(mass_LN.mean(axis=0)[best]))}), where layer "
        f"<strong>{look.layers[there]}</strong> looks most ({mass_words(float(mass_LN[there, best]))}). Layer "
        f"<strong>{look.layers[layer]}</strong> looks most at memory as a whole ({mass_words(float(share_L[layer]))})."
        "</p>"
    )


def of_layer(look: Looked, token: int | None, head: str | int, names: list[str], row: int) -> str:
    """Return in words what one layer looked at, as HTML."""
    share_T, mass_N = look.memory_share(head)[:, row], look.by_chunk(token, head)[row]
    share, best = float(share_T.mean() if token is None else share_T[token]), int(mass_N.argmax())
    return (
        f'<p class="ml-line" role="status">Layer <strong>{look.layers[row]}</strong>, '
        f"{escape(whose(look, token, head))}: <strong>{mass_words(share)}</strong> of its attention on memory. Most on "
        f"<strong>{escape(names[best])}</strong> ({mass_words(float(mass_N[best]))}).</p>"
    )


def whose(look: Looked, token: int | None, head: str | int) -> str:
    """Return which token and head is shown, in words."""
    first = "all tokens" if token is None else f"token {token + 1} {look.tokens[token]!r}"
    heads = {MEAN: "mean over heads", MOST: "largest over heads"}.get(str(head), f"head {head}")
    return f"{first}, {heads}"


def name_of(chunk_id: int, timeline: Timeline, documents: Documents) -> str:
    """Return a chunk's number, with its document when there are several."""
    doc_id, _ = timeline.documents_of.get(chunk_id, (-1, 0))
    title = f" ({one_line(title_of(doc_id, documents), 24)})" if len(timeline.titles) > 1 else ""
    return f"chunk {chunk_number(chunk_id)}{title}"


def stored_layers(visit: Visit) -> tuple[int, ...]:
    """Return the layers whose K-V the bank holds; () before there is a model."""
    model = getattr(visit.session, "model", None)
    return tuple(model.layout.stored_layers) if model is not None else ()
