"""The cards of the Read tab as HTML: samples, documents before, while and after reading. No gradio."""

from __future__ import annotations

from app.samples import Sample
from app.sessions import Visit
from app.shelf import Item
from app.tabs.pieces import bar, button, error_box
from app.text import duration_words, escape, number_words, plural, wait_words

_STATES = {
    "opening": "Opening", "waiting": "Ready to read", "reading": "Reading", "stopped": "Stopped", "done": "Read",
    "failed": "Cannot be read", "removed": "Removed",
}  # fmt: skip


def sample_cards(samples: tuple[Sample, ...]) -> str:
    """Return a button for each sample: one click reads it."""
    if not samples:
        return '<p class="ml-empty">No samples are installed. Drop a file, or paste a text.</p>'
    cards = "".join(
        f'<button type="button" class="ml-sample" data-act="sample" data-id="{escape(sample.name)}">'
        f"<strong>{escape(sample.title)}</strong><span>{escape(sample.about)}</span>"
        f"<em>{_size(sample)}</em></button>"
        for sample in samples
    )
    return f'<div class="ml-samples">{cards}</div>'


def _size(sample: Sample) -> str:
    return f"about {plural(sample.tokens, 'token')}" if sample.tokens else "Read it"


def shelf(visit: Visit | None) -> str:
    """Return all document cards, or what to do when there are none."""
    items = list(visit.shelf) if visit else []
    if not items:
        return (
            '<div class="ml-empty"><strong>No documents yet.</strong> Take a sample above, drop a file, or paste '
            "a text. Its size and reading time appear here before anything is read.</div>"
        )
    minutes = visit.engine.settings.closed_minutes if visit else 0
    kept = f"It stays when this page is loaded again, and for {plural(minutes, 'minute')} after it is closed."
    loaded = visit is not None and visit.engine.state.ready
    cards = "".join(card(item, visit is not None and visit.will_read(item), loaded) for item in items)
    return f'<div class="ml-shelf">{cards}</div><p class="ml-line ml-kept">{kept}</p>'


def card(item: Item, soon: bool = False, loaded: bool = True) -> str:
    """Return one document: what it is, how far it is, what can be done with it.

    ``soon``: its turn comes by itself. ``loaded``: the model is there, without which no token is counted.
    """
    warnings = "".join(f'<p class="ml-note">{escape(text)}</p>' for text in _warnings(item))
    told = {"failed": _failed, "reading": _reading, "stopped": _stopped, "done": _done}.get(item.state)
    body = told(item) if told else _before(item, loaded)
    state = "Will be read" if soon else _STATES[item.state]
    return (
        f'<article class="ml-card ml-is-{item.state}" id="doc-{item.item_id}" aria-label="{escape(item.title)}">'
        f'<header><h3>{escape(item.title)}</h3><span class="ml-state">{state}</span></header>'
        f"{body}{warnings}<footer>{_actions(item, soon)}</footer></article>"
    )


def _warnings(item: Item) -> tuple[str, ...]:
    notes = item.document.warnings if item.document else ()
    if item.state == "waiting" and item.estimate and item.estimate.bank_share > 1:
        notes += (
            f"It is {item.estimate.bank_share:.1f} times as large as the bank: chunks will have to leave while it "
            "is read, by the policy under The bank.",
        )
    if item.report and item.report.too_long:
        notes += (f"{plural(item.report.too_long, 'chunk')} had to be embedded in parts: the retriever takes less.",)
    return notes


def _facts(*facts: str) -> str:
    return '<p class="ml-facts">' + "".join(f"<span>{fact}</span>" for fact in facts if fact) + "</p>"


def _before(item: Item, loaded: bool) -> str:
    if item.state == "opening":
        return _facts("Taking the text out of the file ...")
    found = item.estimate
    if found is None:
        characters = len(item.document.text) if item.document else 0
        later = "counting its tokens ..." if loaded else "tokens are counted when the model is loaded"
        return _facts(item.parts, plural(characters, "character"), later)
    time = ""
    if found.seconds is not None:
        time = f"{'about ' if found.seconds >= 1 else ''}{wait_words(found.seconds)} to read"
    return _facts(
        item.parts,
        plural(found.n_tokens, "token"),
        plural(found.n_chunks, "chunk"),
        f"{found.bank_share:.0%} of the bank",
        time,
    )


def _reading(item: Item) -> str:
    step = item.progress
    if step is None:
        total = f" of {plural(item.estimate.n_tokens, 'token')}" if item.estimate else ""
        return bar(0, "Reading") + _facts(f"Beginning{total}")
    share = step.tokens_done / max(step.tokens_total, 1)
    return bar(share, f"Reading {item.title}") + _facts(
        f"<b>{share:.0%}</b>",
        f"{number_words(step.tokens_done)} of {plural(step.tokens_total, 'token')}",
        f"{number_words(round(step.tokens_per_second))} tokens/s",
        f"{wait_words(step.seconds_left)} left",
    )


def _stopped(item: Item) -> str:
    report = item.report
    if report is None:
        return _facts("Stopped before anything was read")
    share = report.chunks_read / max(_chunks(item), 1)
    return bar(share, f"{item.title}, stopped", "local") + _facts(
        f"<b>{share:.0%}</b> read",
        f"{number_words(report.chunks_read)} of {plural(_chunks(item), 'chunk')}",
        *_outcome(item),
        "What was read stays and can be asked about",
    )


def _done(item: Item) -> str:
    report = item.report
    if report is None:
        return ""
    speed = report.n_tokens / report.seconds if report.seconds else 0
    return _kept_bar(item) + _facts(
        item.parts,
        plural(report.n_tokens, "token"),
        *_outcome(item),
        f"{duration_words(report.seconds)} ({number_words(round(speed))} tokens/s)",
    )


def _outcome(item: Item) -> tuple[str, ...]:
    report = item.report
    assert report is not None
    gone = report.chunks_read - report.chunks_kept
    return (
        f'<b class="ml-text-memory">{plural(report.chunks_kept, "chunk")} kept</b>',
        f'<b class="ml-text-evicted">{number_words(gone)} evicted</b>' if gone else "none evicted",
    )


def _kept_bar(item: Item) -> str:
    report = item.report
    assert report is not None
    share = 100 * report.chunks_kept / max(report.chunks_read, 1)
    return (
        f'<div class="ml-bar" role="img" aria-label="{share:.0f} percent of its chunks kept">'
        f'<i class="ml-memory" style="width:{share:.2f}%"></i>'
        f'<i class="ml-evicted" style="width:{100 - share:.2f}%"></i></div>'
    )


def _chunks(item: Item) -> int:
    if item.progress:
        return item.progress.chunks_total
    return item.estimate.n_chunks if item.estimate else 0


def _failed(item: Item) -> str:
    return error_box(item.error) if item.error else ""


def _actions(item: Item, soon: bool) -> str:
    number, title = item.item_id, item.title
    acts = {
        "waiting": [*([] if soon else [("Read", "read", "ml-strong")]), ("Remove", "remove", "")],
        "stopped": [("Resume", "resume", "ml-strong"), ("Export", "export", ""), ("Remove", "remove", "")],
        "done": [
            ("Ask", "ask-tab", "ml-strong"),
            ("Read again", "again", ""),
            ("Export", "export", ""),
            ("Remove", "remove", ""),
        ],
        "reading": [("Stop", "stop", "ml-strong"), ("Remove", "remove", "")],
        "failed": [("Remove", "remove", "")],
    }.get(item.state, [])
    return "".join(button(words, act, number, style=style, label=f"{words}: {title}") for words, act, style in acts)
