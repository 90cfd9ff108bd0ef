"""Attention on words as HTML: what memory gave to each token of an answer, what each token of a chunk got."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.rows.words import mass_words
from app.shading import Shaded
from app.tabs.pieces import bar
from app.text import escape, escape_lines, plural

DEEPEST = 45  # per cent of blue behind a word: more would make it hard to read on a dark page
STRONGEST = 0.98  # quantile of a chunk's words from which on the blue grows no stronger
HOW_ANSWER = (
    "The stronger the blue, the more of its attention a token paid to memory. Click a token to look at it alone."
)
HOW_CHUNK = (
    "The stronger the blue, the more attention fell on the word. It is worked out anew for the answer and token chosen "
    "above, as the mean over retrieval layers and heads, at neutral memory strength."
)
NOTHING_SHADED = f'<p class="ml-empty">Choose a chunk and press <strong>Shade its words</strong>. {HOW_CHUNK}</p>'


def answer_words(tokens: Sequence[str], share_T: np.ndarray, chosen: int | None) -> str:
    """Return the answer with a ground of blue behind each token, the chosen one framed."""
    low, high = float(share_T.min(initial=1.0)), float(share_T.max(initial=0.0))
    words = "".join(
        f'<span class="ma-token{" ma-chosen" if index == chosen else ""}" data-act="token" data-id="{index}" '
        f'title="token {index + 1}: {mass_words(float(share))} of attention on memory" '
        f'style="--depth:{_depth(float(share), low, high)}%">{escape_lines(token)}</span>'
        for index, (token, share) in enumerate(zip(tokens, share_T, strict=True))
    )
    ends = f"palest {mass_words(low)}, strongest {mass_words(high)}"
    return (
        f'<h2 class="ml-h2">The answer, token by token</h2><p class="ma-words">{words}</p>'
        f'<p class="mm-how-plot">{HOW_ANSWER} Here: {ends}.</p>'
    )


def chunk_words(shaded: Shaded, name: str) -> str:
    """Return a chunk's text with a ground of blue behind each token, and how far the work is."""
    # The first token of a chunk takes much attention whatever it says; the strongest blue begins below it.
    high, most = (float(np.quantile(shaded.mass, at)) if len(shaded.mass) else 0.0 for at in (STRONGEST, 1.0))
    words = "".join(
        f'<span class="ma-token" title="{mass_words(float(mass))} of attention" '
        f'style="--depth:{_depth(float(mass), 0.0, high)}%">{escape_lines(piece)}</span>'
        for piece, mass in zip(shaded.pieces, shaded.mass, strict=True)
    )
    total = mass_words(float(shaded.mass.sum())) or "0%"
    said = (
        f"<strong>{escape(name)}</strong> got {total} of attention, its strongest word {mass_words(most) or '0%'}; "
        f"the strongest blue begins at {mass_words(high) or '0%'}. {HOW_CHUNK}"
    )
    return (
        f'{progress(shaded)}<p class="ma-words ma-chunk" tabindex="0" aria-label="Words of {escape(name)}">{words}</p>'
        f'<p class="mm-how-plot">{said}</p>'
    )


def progress(shaded: Shaded) -> str:
    """Return how much of an answer has been looked at; "" when it was all of it."""
    if shaded.done >= shaded.total:
        return ""
    words = f"{shaded.done} of {plural(shaded.total, 'token')} looked at"
    return f'<p class="ml-line" role="status">{words}</p>{bar(shaded.done / shaded.total, words)}'


def _depth(value: float, low: float, high: float) -> int:
    return round(DEEPEST * min(1.0, (value - low) / (high - low))) if high > low else 0
