"""The Settings tab: which model, how it is loaded, what its memory is like; and what that takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr

from app.context import App
from app.resources import resources, time_split
from app.sessions import Visit
from app.settings import PRECISIONS, RETRIEVER_MENU
from app.setup import LAYERS, SETUPS, Setup
from app.switching import needs, refuse_changes, would_be_lost
from app.tabs import settings_pieces as pieces
from app.tabs.pieces import CLICKS, error_box, is_error
from app.tabs.read import POLICY_WORDS
from app.text import escape
from memlong.bank.eviction import POLICIES
from memlong.config import MEMORY_POSITIONS, PRESETS, STORE_DTYPES
from memlong.errors import ConfigError, MemLongError
from memlong.layers import layers_text

TITLE = "Settings"
NAMES = tuple(each.name for each in fields(Setup))
OWN = ("as the model has it", "")
OWN_NUMBER = "model's own"
SHOW_EVERY = 0.3  # seconds between two pictures of loading
PRECISION_WORDS = {
    "auto": "auto (measured)", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "8bit": "8-bit",
    "4bit": "4-bit",
}  # fmt: skip
PRESET_WORDS = {
    "own": "own: every retrieval layer reads its own K-V", "interpolated": "interpolated: a few stored, others mapped",
    "projected": "projected: one low layer stored, others mapped", "paper": "paper: one stored, four read it as it is",
}  # fmt: skip
POSITION_WORDS = {
    "zero": "zero: all at position 0, as in the paper", "before": "before: in their order, right before the question",
}  # fmt: skip
STRENGTHS = {
    "relevance_strength": ("Relevance", "Less attention where what stands around answers the question less; 0: none."),
    "recency_strength": (
        "Recency",
        "Of chunks that may answer equally well the last one counts; 0: early and late alike.",
    ),
    "spelling_strength": (
        "Spelling",
        "How firmly words of an answer are spelt as the text spells them; 0: not at all.",
    ),
    "abstention_strength": (
        "Doubt",
        "How firmly the retriever has a say in whether the text does not tell; 0: not at all.",
    ),
    "pointing_strength": (
        "Pointing",
        "How firmly an answer keeps to the words that the retriever points at in the text; 0: not at all.",
    ),
}
"""Numbers from 0, with or without a fraction, and what they do."""
_LARGEST_FILE = 100_000  # characters of a settings file


@dataclass
class Parts:
    """Components of the tab that events or other tabs need.

    Attributes:
        form: in the order of :data:`NAMES`. said: what came of filling in, estimating and loading. told: of sharing.
        view: what is loaded, memory, time, in the order of :func:`picture`.
        changed: events after which another model may serve; other tabs hang their own redrawing on them.
    """

    tab: gr.Tab
    chosen: gr.Dropdown
    form: list[Any]
    estimate: gr.Button
    load: gr.Button
    said: gr.HTML
    ask: gr.HTML
    view: list[gr.HTML]
    refresh: gr.Button
    share: gr.Button
    link: gr.Textbox
    file: gr.DownloadButton
    upload: gr.UploadButton
    told: gr.HTML
    changed: list[Any]


def build(app: App) -> Parts:
    """Lay out the tab. Called inside ``gr.Tabs``."""
    allowed = app.settings.changes_allowed
    with (
        gr.Tab(TITLE, id="settings", elem_id="tab-settings") as tab,
        gr.Row(equal_height=False, elem_classes="ml-columns"),
    ):
        with gr.Column(scale=6, min_width=320):
            gr.HTML('<h2 class="ml-h2">1. Choose a model and its memory</h2>', elem_classes="ml-head")
            chosen = gr.Dropdown(
                [(words, name) for name, (words, _) in SETUPS.items()], value=None, label="Start from", elem_id="setup",
                info="Fills in the form; nothing is loaded yet.",
            )  # fmt: skip
            form = _form(Setup.from_settings(app.settings))
            gr.HTML('<h2 class="ml-h2">2. Load it</h2>', elem_classes="ml-head")
            gr.HTML(pieces.MEANS if allowed else pieces.NOT_ALLOWED)
            with gr.Row(elem_classes="ml-actions"):
                load = gr.Button("Load", variant="primary", elem_id="load", scale=0, min_width=120, interactive=allowed)
                estimate = gr.Button("Estimate memory", elem_id="estimate", scale=0, min_width=190, interactive=allowed)
            said = gr.HTML("", elem_id="settings-said")
            ask = gr.HTML("", js_on_load=CLICKS, elem_id="settings-ask")
        with gr.Column(scale=5, min_width=320):
            gr.HTML('<h2 class="ml-h2">Loaded now</h2>', elem_classes="ml-head")
            now = gr.HTML(pieces.loaded(app.engine), elem_id="loaded")
            gr.HTML('<h2 class="ml-h2">What it takes</h2>', elem_classes="ml-head")
            memory = gr.HTML(pieces.memory_bar(None), elem_id="resources")
            time = gr.HTML(pieces.time_bar([]), elem_id="time-split")
            refresh = gr.Button("Look again", size="sm", elem_id="look-again", scale=0, min_width=120)
            gr.HTML('<h2 class="ml-h2">Share this form</h2>', elem_classes="ml-head")
            with gr.Row(elem_classes="ml-actions"):
                share = gr.Button("Make a link and a file", elem_id="share", scale=0, min_width=220)
                upload = gr.UploadButton(
                    "Fill in from a file", file_types=[".json"], elem_id="setup-upload", scale=0, min_width=200
                )
            told = gr.HTML("", elem_id="share-said")
            link = gr.Textbox(
                label="Link", interactive=False, visible=False, elem_id="setup-link", buttons=["copy"],
                info="Opens this page with the form filled in. It loads nothing by itself.",
            )  # fmt: skip
            file = gr.DownloadButton("Download as a file", visible=False, elem_id="setup-file")
    return Parts(
        tab,
        chosen,
        form,
        estimate,
        load,
        said,
        ask,
        [now, memory, time],
        refresh,
        share,
        link,
        file,
        upload,
        told,
        [],
    )


def _form(setup: Setup) -> list[Any]:
    """Return the components in the order of :data:`NAMES`."""
    values, made = dict(zip(NAMES, form_values(setup), strict=True)), {}
    # Wide enough for the words of an empty box: on a phone two stand in a row, three would cut them. No least number:
    # gradio would refuse it in a corner of the page and leave an earlier estimate where the refusal belongs.
    own: dict[str, Any] = {"precision": 0, "placeholder": OWN_NUMBER, "min_width": 130}
    made["model"] = gr.Textbox(
        values["model"], label="Model", max_lines=1, elem_id="model",
        info="'bundled', a Hugging Face id such as Qwen/Qwen2.5-0.5B-Instruct, or a folder.",
    )  # fmt: skip
    with gr.Row():
        precision = [(PRECISION_WORDS[name], name) for name in PRECISIONS]
        made["precision"] = _menu("precision", "Precision", precision, values, "8-bit and 4-bit use bitsandbytes.")
        made["retriever"] = gr.Dropdown(
            list(RETRIEVER_MENU), value=values["retriever"], label="Retriever", allow_custom_value=True,
            info="Or sentence:MODEL.", elem_id="setup-retriever", min_width=150,
        )  # fmt: skip
    with gr.Row():
        made["chunk_tokens"] = gr.Number(
            values["chunk_tokens"], label="Chunk", info="tokens", elem_id="chunk-tokens", **own
        )
        made["window_tokens"] = gr.Number(
            values["window_tokens"], label="Window", info="tokens", elem_id="window-tokens", **own
        )
        made["top_k"] = gr.Number(values["top_k"], label="Top-k", info="chunks", elem_id="setup-top-k", **own)
        made["retrieve_every"] = gr.Number(
            values["retrieve_every"],
            label="Retrieve every",
            info="tokens; 0: once",
            elem_id="retrieve-every",
            **own,
        )
    with gr.Row():
        made["capacity"] = gr.Number(
            values["capacity"],
            label="Capacity (tokens)",
            precision=0,
            elem_id="setup-capacity",
            min_width=150,
        )
        policies = [(POLICY_WORDS.get(name, name), name) for name in POLICIES]
        made["policy"] = _menu("policy", "Eviction policy", policies, values)
    with gr.Accordion("Layers, for those who know them", open=False, elem_id="layers"):
        presets = [OWN, *((PRESET_WORDS.get(name, name), name) for name in PRESETS)]
        made["preset"] = _menu("preset", "Memory preset", presets, values, "How retrieval layers come by their K-V.")
        with gr.Row():
            made["stored_layers"] = gr.Textbox(
                values["stored_layers"], label="Stored (memory) layers", placeholder="as the preset says", max_lines=1,
                elem_id="stored-layers", info="Counted from 0, as in 8, 18, 28 or 8-29.",
            )  # fmt: skip
            made["retrieval_layers"] = gr.Textbox(
                values["retrieval_layers"], label="Retrieval layers", placeholder="as the preset says", max_lines=1,
                elem_id="retrieval-layers", info="From the lowest stored layer up.",
            )  # fmt: skip
        stores = [OWN, *((name, name) for name in STORE_DTYPES)]
        made["store_dtype"] = _menu(
            "store_dtype", "The bank's number type", stores, values, "int8 halves the bank, k8v4 takes 3/8."
        )
        places = [OWN, *((POSITION_WORDS[name], name) for name in MEMORY_POSITIONS)]
        info = "Where retrieved keys stand for a question."
        made["memory_positions"] = _menu("memory_positions", "Places of retrieved keys", places, values, info)
        ends = [OWN, ("with a sentence", "sentences"), ("after so many tokens", "tokens")]
        made["chunk_ends"] = _menu(
            "chunk_ends", "Where chunks end", ends, values, "With a sentence they may be shorter, by half at most."
        )
        made["relevance_strength"] = _strength("relevance_strength", values, own)
        made["recency_strength"] = _strength("recency_strength", values, own)
        made["rerank_candidates"] = gr.Number(
            values["rerank_candidates"], label="Looked at twice", elem_id="rerank-candidates",
            info="Chunks found first; their best parts decide which are fetched; 0: none.", **own,
        )  # fmt: skip
        made["spelling_strength"] = _strength("spelling_strength", values, own)
        made["abstention_strength"] = _strength("abstention_strength", values, own)
        made["pointing_strength"] = _strength("pointing_strength", values, own)
        made["question_steps"] = gr.Number(
            values["question_steps"], label="Steps", elem_id="question-steps",
            info="Answers a question may take: what it needs to have found is asked first; 1: none.", **own,
        )  # fmt: skip
    return [made[name] for name in NAMES]


def _strength(name: str, values: dict[str, Any], own: dict[str, Any]) -> gr.Number:
    label, info = STRENGTHS[name]
    return gr.Number(
        values[name], label=label, info=info, elem_id=name.replace("_", "-"), **own | {"precision": None},
    )  # fmt: skip


def _menu(name: str, label: str, choices: list[tuple[str, str]], values: dict[str, Any], info: str = "") -> gr.Dropdown:
    return gr.Dropdown(
        choices, value=values[name], label=label, info=info or None, elem_id=f"setup-{name.replace('_', '-')}",
        min_width=150,
    )  # fmt: skip


def form_values(setup: Setup) -> list[Any]:
    """Return a setup as the form shows it, in the order of :data:`NAMES`."""
    return [layers_text(getattr(setup, name)) if name in LAYERS else getattr(setup, name) for name in NAMES]


def setup_of(*values: Any) -> Setup:
    """Return what the form says. Raises ConfigError for what does not fit."""
    return Setup.from_dict(dict(zip(NAMES, values, strict=True)))


def wire(app: App, parts: Parts) -> None:
    """Connect the events. Loading is a generator; the model itself is loaded by a thread of its own."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
    out = [parts.said, parts.ask, *parts.view]

    def choose(name: str | None) -> list[Any]:
        return fill(lambda: SETUPS[str(name)][1], SETUPS[str(name)][0]) if name else [gr.skip()] * (len(NAMES) + 1)

    def take(path: str | None) -> list[Any]:
        *form, told = fill(lambda: read_file(path), "the file")
        return [*form, told, gr.skip() if is_error(told) else ""]

    def weigh(*values: Any) -> str:
        return weighed(app, *values)

    def load(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        yield from loading(app, app.visit(request), False, *values)

    def answer(request: gr.Request, event: gr.EventData, *values: Any) -> Iterator[list[Any]]:
        act = event._data.get("act")
        if act == "load":
            yield from loading(app, app.visit(request), True, *values)
        elif act == "stop":
            app.switch.stop()
            yield [gr.skip(), "", *[gr.skip()] * 3]
        else:
            yield ["", "", *picture(app, app.visit(request))]

    def look(request: gr.Request) -> list[Any]:
        return picture(app, app.visit(request))

    def share(request: gr.Request, *values: Any) -> list[Any]:
        return shared(app.visit(request).outbox(), str(request.headers.get("referer") or ""), *values)

    filled = [*parts.form, parts.said]
    parts.chosen.input(choose, parts.chosen, filled, **quiet)
    parts.upload.upload(take, parts.upload, [*parts.form, parts.told, parts.said], **quiet)
    parts.upload.upload(filled_otherwise, None, parts.chosen, **quiet)
    parts.estimate.click(weigh, parts.form, parts.said, **quiet)
    parts.share.click(share, parts.form, [parts.link, parts.file, parts.told], **quiet)
    parts.refresh.click(look, None, parts.view, **quiet)
    parts.tab.select(look, None, parts.view, **quiet)
    parts.changed += [
        parts.load.click(load, parts.form, out, trigger_mode="once", **quiet),
        parts.ask.click(answer, parts.form, out, trigger_mode="multiple", **quiet),
    ]


def picture(app: App, visit: Visit | None) -> list[Any]:
    """Return the values of :attr:`Parts.view`: what is loaded, memory, time."""
    found = resources(app.engine, list(app.visits), visit)
    return [pieces.loaded(app.engine), pieces.memory_bar(found), pieces.time_bar(time_split(visit))]


def fill(make: Any, what: str) -> list[Any]:
    """Return the form with another setup in it, and a line about it; the form as it is when that fails."""
    try:
        setup = make()
    except MemLongError as error:
        return [*[gr.skip()] * len(NAMES), error_box(error)]
    said = f'<p class="ml-line" role="status">Filled in: {escape(what)}. Nothing is loaded yet.</p>'
    return [*form_values(setup), said]


def filled_otherwise() -> None:
    """Clear the menu of setups: what it named before is no longer what the form says."""


def fill_model(app: App, model: str, what: str) -> list[Any]:
    """Return the form with a model that brings its memory settings, loaded otherwise as the present one."""
    now = Setup.from_settings(app.engine.settings)
    return fill(lambda: Setup(model, retriever=now.retriever, capacity=now.capacity, policy=now.policy), what)


def read_file(path: str | None) -> Setup:
    """Return the setup in an uploaded file. Raises ConfigError for what is none."""
    if path is None:
        raise ConfigError("No file", "A settings file in JSON", "Choose one")
    text = Path(path).read_bytes()[: _LARGEST_FILE + 1].decode("utf-8", "replace")
    if len(text) > _LARGEST_FILE:
        raise ConfigError("The file is too large for settings", "A file that this tab wrote", "Choose another file")
    return Setup.from_json(text)


def shared(folder: Path, address: str, *values: Any) -> list[Any]:
    """Return the link, the file (made in ``folder``), and what is wrong with the form."""
    try:
        setup = setup_of(*values)
    except MemLongError as error:
        return [gr.Textbox(visible=False), gr.DownloadButton(visible=False), error_box(error)]
    path = folder / "memlong-settings.json"
    path.write_text(setup.to_json(), "utf-8")
    link = f"{address.partition('?')[0].partition('#')[0]}?{setup.to_query()}"
    return [gr.Textbox(link, visible=True), gr.DownloadButton(value=str(path), visible=True), ""]


def weighed(app: App, *values: Any) -> str:
    """Return what the form's setup would take, or what is wrong with it."""
    try:
        return pieces.needed(needs(setup_of(*values), app.engine.settings))
    except MemLongError as error:
        return error_box(error)


def loading(app: App, visit: Visit, sure: bool, *values: Any) -> Iterator[list[Any]]:
    """Load what the form says; yields the tab as it looks meanwhile. Unless ``sure``, asks before anything is lost."""
    yield ['<p class="ml-line" role="status">Looking at what this takes ...</p>', "", *[gr.skip()] * 3]
    try:
        refuse_changes(app.engine.settings)
        setup = setup_of(*values)
        found = needs(setup, app.engine.settings)
        lost = would_be_lost(app.visits)
        if not sure and (lost or not found.fits):
            yield ["", pieces.ask_first(lost, found), *picture(app, visit)]
            return
        app.switch.start(setup)
        yield [gr.skip(), pieces.STOP, *[gr.skip()] * 3]  # once: a redraw would take the keyboard's focus from it
        while not app.switch.wait(SHOW_EVERY) and app.switch.loading:
            yield [pieces.switching(app.switch), *[gr.skip()] * 4]
    except MemLongError as error:
        yield [error_box(error), "", *picture(app, visit)]
        return
    stopped = '<p class="ml-line" role="status">Loading was stopped; the present model goes on serving.</p>'
    yield [pieces.switching(app.switch) or stopped, "", *picture(app, visit)]


def arrive(app: App, query: dict[str, str]) -> tuple[list[Any], bool]:
    """Return the form and its line for a page that opens, and whether its address brought settings."""
    try:
        setup = Setup.from_query(query)
    except MemLongError as error:
        return [*form_values(Setup.from_settings(app.engine.settings)), error_box(error)], True
    if setup is not None:
        return fill(lambda: setup, "the link"), True
    return [*form_values(Setup.from_settings(app.engine.settings)), ""], False
