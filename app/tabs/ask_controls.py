"""How to answer: the controls of the tab Ask, what they say, and the menu of documents among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gradio as gr

from app.sessions import Visit
from app.setup import MOST_CHUNKS
from memlong.config import AskOptions

FROM_WORDS = [("memory", "memory"), ("passages in the prompt", "passages"), ("both", "both"), ("nothing", "nothing")]


def build() -> list[Any]:
    """Lay them out, in the order of :func:`options`."""
    with gr.Accordion("How to answer", open=False, elem_id="ask-settings"):
        source = gr.Radio(
            FROM_WORDS,
            value="memory",
            label="Answer from",
            elem_id="answer-from",
            info="Memory reads the stored chunks by attention; passages puts their text into the prompt.",
        )
        documents = gr.Dropdown(
            [], value=[], multiselect=True, label="Documents", info="None chosen asks all.", elem_id="ask-documents"
        )
        with gr.Row():
            top_k = gr.Slider(
                0,
                MOST_CHUNKS,
                value=0,
                step=1,
                label="Chunks to retrieve (top-k)",
                elem_id="top-k",
                info="0 takes what suits the model.",
            )
            strength = gr.Slider(
                -8,
                8,
                value=0,
                step=0.5,
                label="Memory strength",
                elem_id="strength",
                info="Added before the softmax: 0 is neutral, -8 all but off.",
            )
        with gr.Row():
            temperature = gr.Slider(
                0, 1.5, value=0, step=0.1, label="Temperature", elem_id="temperature", info="0 repeats exactly."
            )
            length = gr.Slider(8, 512, value=64, step=8, label="Length (tokens at most)", elem_id="length")
    return [source, documents, top_k, strength, temperature, length]


def options(*controls: Any, seed: int = 0) -> AskOptions:
    """Return what the controls say: answer from, documents, top-k, memory strength, temperature, length."""
    source, documents, top_k, strength, temperature, length = controls
    return AskOptions(
        answer_from=source, documents=tuple(int(doc_id) for doc_id in documents) if documents else None,
        top_k=int(top_k) or None, memory_strength=float(strength), temperature=float(temperature),
        max_tokens=int(length), seed=seed, follow_ups=True,
    )  # fmt: skip


def document_choices(visit: Visit) -> list[tuple[str, int]]:
    """Return the documents in memory as (title, id)."""
    return [
        (item.title, item.doc_id) for item in visit.shelf
        if item.doc_id is not None and item.state in ("reading", "stopped", "done")
    ]  # fmt: skip


def documents_menu(visit: Visit, ticked: Iterable[int]) -> Any:
    """Return the menu of documents to ask. One that was read anew stays ticked, one that was removed does not.

    Gradio refuses every question whose menu holds a choice that is none any more.
    """
    choices = document_choices(visit)
    items = [visit.shelf.of_doc(doc_id) for doc_id in ticked]
    now = {item.doc_id for item in items if item is not None}
    value = [doc_id for _, doc_id in choices if doc_id in now]
    return gr.Dropdown(choices=choices, value=value, multiselect=True)
