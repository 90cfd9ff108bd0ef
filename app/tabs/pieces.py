"""Pieces of HTML that several tabs use. All text from documents and people is escaped here; no gradio."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.engine import Engine
from app.sessions import Visit
from app.text import escape, number_words, one_line, plural
from memlong.errors import MemLongError

_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#|[A-Za-z]+[0-9]*;?)")

# One listener for all buttons inside a piece of HTML: a click on any element with data-act reaches Python as
# {act, id, of}. Listening on the container survives every redraw.
CLICKS = """
element.addEventListener('click', (event) => {
  const hit = event.target.closest('[data-act]');
  if (!hit || !element.contains(hit)) return;
  trigger('click', {act: hit.dataset.act, id: hit.dataset.id ?? '', of: hit.dataset.of ?? ''});
});
"""


def button(words: str, act: str, id: object = "", of: object = "", style: str = "", label: str = "") -> str:
    """Return a real button; ``label`` is what a screen reader says when the words alone do not tell."""
    spoken = f' aria-label="{escape(label)}"' if label else ""
    return (
        f'<button type="button" class="ml-button {style}" data-act="{escape(act)}" data-id="{escape(id)}" '
        f'data-of="{escape(of)}"{spoken}>{escape(words)}</button>'
    )


def error_box(error: MemLongError) -> str:
    """Return the three parts of an error: what was given, what is allowed, what to do."""
    parts = [part for part in (error.given, error.allowed, error.do) if part]
    rest = "".join(f"<span>{escape(part)}</span> " for part in parts[1:])
    return f'<div class="ml-error" role="alert"><strong>{escape(parts[0])}</strong> {rest}</div>'


def is_error(html: str | None) -> bool:
    """Whether HTML that a component showed is an error box; words of strangers cannot make it one."""
    return (html or "").startswith('<div class="ml-error"')


def bar(share: float, label: str, kind: str = "memory") -> str:
    """Return a progress bar from 0 to 1."""
    percent = 100 * min(max(share, 0.0), 1.0)
    return (
        f'<div class="ml-bar" role="progressbar" aria-label="{escape(label)}" aria-valuenow="{percent:.0f}" '
        f'aria-valuemin="0" aria-valuemax="100"><i class="ml-{kind}" style="width:{percent:.2f}%"></i></div>'
    )


def engine_line(engine: Engine) -> str:
    """Return the state of the model: loading with a share, ready with its name, or what went wrong."""
    state = engine.state
    if state.error:
        return error_box(state.error)
    if state.ready:
        return f'<p class="ml-engine"><i class="ml-dot"></i>{escape(engine.describe())}</p>'
    words = f"Loading model {state.share:.0%}"
    return (
        f'<div class="ml-engine" role="status"><span>{words}: {escape(state.words)}. Documents can be added '
        f"meanwhile; reading and questions wait for it.</span>{bar(state.share, words)}</div>"
    )


def bank_line(visit: Visit | None, do: str = "") -> str:
    """Return one line about what memory holds now; ``do``: what to do when that is nothing."""
    session = visit.session if visit else None
    if visit is not None and visit.emptied:
        return (
            '<p class="ml-notice" role="status"><strong>Memory was emptied.</strong> Another model was loaded for '
            "everybody, and it cannot read what the one before kept. Your documents are still listed on the tab Read: "
            "read them anew there.</p>"
        )
    if session is None or not session.chunks_read or not len(session.bank):
        return f'<p class="ml-line">Memory is empty.{f" {escape(do)}" if do else ""}</p>'
    bank = session.bank
    # Counted without the ledger, which another thread may be changing at this moment.
    states = [state for state in list(session.documents.values()) if state.status != "removed"]
    read = sum(state.chunks_read for state in states)
    share = bank.tokens / bank.capacity.tokens
    return (
        f'<div class="ml-line">Memory holds <strong>{number_words(len(bank))}</strong> of '
        f"<strong>{plural(read, 'chunk')}</strong> read, and is {share:.0%} full."
        f"{bar(share, 'Bank occupancy')}</div>"
    )


def asked_first(question: str, found: str) -> str:
    """Return what was asked before a question, and what was found so far."""
    return f"Asked first: <q>{escape(one_line(question, 200))}</q> <b>{escape(one_line(found, 200)) or '...'}</b>"


def for_chat(text: str) -> str:
    """Return text for gradio's chatbot, which shows HTML even where Markdown is off: nothing may begin a tag.

    Only what HTML would take for a tag or an entity is changed, so that copying gives nearly always the text.
    """
    return _TAG.sub("&lt;", _ENTITY.sub("&amp;", text))


def from_chat(text: str) -> str:
    """Undo :func:`for_chat`, for a message that was edited."""
    return text.replace("&lt;", "<").replace("&amp;", "&")


def suggestions(questions: Sequence[str], words: str) -> str:
    """Return questions as buttons, or "" when there are none."""
    if not questions:
        return ""
    buttons = "".join(button(question, "ask", question, style="ml-chip") for question in questions)
    return f'<div class="ml-suggest"><span>{escape(words)}</span>{buttons}</div>'
