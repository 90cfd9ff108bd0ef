"""What the Settings tab says, as HTML: what is loaded, what a setup needs, memory and time as bars. No gradio."""

from __future__ import annotations

from collections.abc import Sequence

from app.engine import Engine
from app.resources import Resources
from app.switching import Needs, Switch
from app.tabs.pieces import bar, button, error_box
from app.text import duration_words, escape, number_words, plural, size_words
from memlong.layers import layers_text

NOT_ALLOWED = (
    '<p class="ml-note">This app does not let visitors load other models. You can fill in the form, and take it with '
    "you as a link or a file for an app of your own; its owner can start this one with <code>--allow-changes on</code>."
    "</p>"
)
MEANS = (
    '<p class="ml-line">Loading changes the model for everybody who has this page open. Memory holds what the present '
    "model made of the text, which no other model can read: all memories and conversations are emptied. Documents stay "
    "listed and can be read anew. Until the new model is ready the present one goes on serving, and it stays when "
    "loading fails; there must be room for both.</p>"
)
_PHASE_WORDS = {
    "embed": "embed the question", "search": "search the bank", "gather": "gather K-V", "prefill": "prefill",
    "decode": "decode",
}  # fmt: skip


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return names and values as a list; values are escaped."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs if value)
    return f'<dl class="ms-facts">{rows}</dl>'


def loaded(engine: Engine) -> str:
    """Return what is loaded now, and its memory settings."""
    if not engine.state.ready:
        if engine.state.error:
            return error_box(engine.state.error)
        return '<p class="ml-line" role="status">The model is still loading.</p>'
    model, config, layout = engine.model, engine.model.config, engine.model.layout
    number = str(model.dtype).removeprefix("torch.")
    quantised = engine.settings.quantization
    ends = ", cut at sentences" if config.chunk_ends == "sentences" else ""
    candidates, near = max(config.top_k, config.rerank_candidates), config.relevance_strength
    spelt, last, said = config.spelling_strength, config.recency_strength, config.abstention_strength
    pointed = config.pointing_strength
    looked = f" of {candidates} looked at twice" if config.rerank_candidates else ""
    return facts(
        [
            ("Model", model.name),
            ("Precision", f"{quantised} weights, {number} arithmetic" if quantised else number),
            ("Retriever", engine.retriever.notice or engine.retriever.name),
            ("Memory", f"{config.preset}; {config.store_dtype}"),
            ("Stored layers", layers_text(layout.stored_layers).replace(",", ", ")),
            ("Retrieval layers", layers_text(layout.retrieval_layers).replace(",", ", ")),
            ("Chunk, window", f"{config.chunk_tokens} and {config.window_tokens} tokens{ends}"),
            ("Relevance", f"strength {near:g}: what is near the answer counts more" if near else "all tokens alike"),
            ("Recency", f"strength {last:g}: the last telling counts" if last else "early and late alike"),
            ("Spelling", f"strength {spelt:g}: as the text spells words" if spelt else "left to the model"),
            ("Doubt", f"strength {said:g}: the retriever has a say" if said else "left to the model"),
            ("Pointing", f"strength {pointed:g}: at words of the text" if pointed else "left to the model"),
            ("Steps", _steps(config.question_steps)),
            ("Top-k", f"{config.top_k}{looked}, anew every {plural(config.retrieve_every, 'token')}"),
            ("Bank", f"{plural(engine.settings.capacity, 'token')}, {engine.settings.policy}"),
        ]
    )


def _steps(most: int) -> str:
    return f"up to {most}: what a question needs is found first" if most > 1 else "every question as it stands"


def needed(found: Needs) -> str:
    """Return what a setup takes against what is free."""
    free = "" if found.free is None else f" of {size_words(found.free)} free"
    verdict = '<p class="ml-line" role="status">It fits.</p>'
    if not found.fits:
        verdict = (
            '<p class="ml-note" role="alert">That is more than is free now. Choose 4bit or 8bit, a smaller bank, int8 '
            "as the bank's number type, fewer stored layers, or a smaller model.</p>"
        )
    share = found.total / found.free if found.free else 0.0
    return (
        facts(
            [
                (
                    "Weights",
                    f"{size_words(found.weights)} ({number_words(round(found.parameters / 1e6))} M parameters)",
                ),
                ("A full bank", f"{size_words(found.bank)} a visitor ({size_words(found.per_token)} a token)"),
                ("Together", f"{size_words(found.total)}{free} on {found.device}"),
            ]
        )
        + (bar(share, "Share of free memory", "memory" if found.fits else "evicted") if found.free else "")
        + verdict
        + '<p class="mm-how-plot">An estimate from the model\'s configuration; working memory of some hundred '
        "megabytes comes on top.</p>"
    )


def ask_first(lost: str, found: Needs) -> str:
    """Return the question that is put before something is lost or may not fit."""
    reasons = ""
    if lost:
        reasons += f"<p>This empties <strong>{escape(lost)}</strong>, of all visitors. Documents stay listed.</p>"
    if not found.fits:
        reasons += (
            f"<p>It takes about {size_words(found.total)}, and {size_words(found.free or 0)} are free: it may fail, "
            "and slow the machine down meanwhile.</p>"
        )
    buttons = button("Load all the same", "load", style="ml-strong") + button("Keep the present model", "keep")
    return f'<div class="ml-notice" role="alert">{reasons}<div>{buttons}</div></div>'


STOP = button("Stop", "stop", label="Stop loading")


def switching(switch: Switch) -> str:
    """Return how far loading is, or how it ended; "" before the first."""
    state = switch.state
    if state is None:
        return ""
    if state.error:
        kept = "The present model goes on serving." if switch.engine.state.ready else ""
        return error_box(state.error) + (f'<p class="ml-line">{kept}</p>' if kept else "")
    if state.ready:
        return (
            f'<p class="ml-line" role="status"><i class="ml-dot"></i>Loaded: <strong>'
            f"{escape(switch.engine.describe())}</strong>. Memories are empty; read your documents anew in the tab "
            "Read.</p>"
        )
    words = f"Loading {state.share:.0%}"
    said = f"<span>{words}: {escape(state.words)}</span>"
    return f'<div class="ml-engine" role="status">{said}{bar(state.share, words)}</div>'


def memory_bar(found: Resources | None) -> str:
    """Return the device's memory as one bar: model, this visitor's bank, other banks, free."""
    if found is None:
        return '<p class="ml-empty">What model and bank take is shown here when the model is loaded.</p>'
    parts = [
        ("Model", found.weights, "ms-model"), ("Your bank, set aside", found.bank, "ms-bank"),
        ("Other visitors' banks", found.banks - found.bank, "ms-others"), ("Free", found.free or 0, "ms-free"),
    ]  # fmt: skip
    peak = f" The peak so far: {size_words(found.peak)}." if found.peak else ""
    how = (
        f"The whole bar is what this app uses and could still take on {found.device}.{peak} A bank is set aside whole "
        "and fills as text is read, so the peak can be less."
    )
    return _stacked("Memory", [(name, size, size_words(size), kind) for name, size, kind in parts if size], how)


def time_bar(split: Sequence[tuple[str, float]]) -> str:
    """Return where the seconds of the last answer went."""
    total = sum(seconds for _, seconds in split)
    if not total:
        return '<p class="ml-empty">Ask a question, and where its time went is shown here.</p>'
    parts = [(_PHASE_WORDS[name], seconds, duration_fine(seconds), f"ms-{name}") for name, seconds in split]
    how = "The whole bar is the last answer's time; embed, search and gather are what memory costs beside the model."
    return _stacked(f"Time of the last answer: {duration_words(total)}", parts, how)


def duration_fine(seconds: float) -> str:
    """Return seconds in words, in milliseconds below one."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else duration_words(seconds)


def _stacked(title: str, parts: Sequence[tuple[str, float, str, str]], how: str) -> str:
    """Return a bar of (name, size, size in words, class), with a legend and a sentence on how to read it."""
    total = sum(size for _, size, _, _ in parts) or 1.0
    bars = "".join(f'<i class="{kind}" style="width:{100 * size / total:.2f}%"></i>' for _, size, _, kind in parts)
    legend = "".join(
        f'<li><i class="{kind}"></i>{escape(name)} <b>{escape(words)}</b></li>' for name, _, words, kind in parts
    )
    spoken = ", ".join(f"{name} {words}" for name, _, words, _ in parts)
    return (
        f'<figure class="ms-figure"><figcaption>{escape(title)}</figcaption><div class="ms-bar" role="img" '
        f'aria-label="{escape(title)}: {escape(spoken)}">{bars}</div><ul>{legend}</ul>'
        f'<p class="mm-how-plot">{escape(how)}</p></figure>'
    )
