"""Results of experiments as HTML and rows for pictures. All text of people and documents is escaped; no gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.lab import PolicyResult, places_of
from app.plots import lab as plots
from app.rows.words import mass_words
from app.sessions import Visit
from app.tabs.pieces import bar
from app.text import escape, escape_lines, number_words, one_line, plural

WAYS = {
    "memory": ("From memory", "K-V of the retrieved chunks"),
    "passages": ("From passages", "their text in the prompt"),
    "both": ("From both", "K-V and text"),
    "nothing": ("From nothing", "the model alone"),
}
EMPTY = {
    "ways": "Ask a question, and see whether memory helped at all.",
    "policies": "Read a document first; then see what every policy would have kept of it.",
    "needle": "Hide a sentence in the text that was read first, and see whether it is found.",
    "owed": "Choose an answer of the tab Ask, and see which chunk it needed.",
}


def empty(what: str) -> str:
    """Return what to do to fill a result."""
    return f'<div class="ml-empty">{escape(EMPTY[what])}</div>'


def four(found: Mapping[str, Any]) -> str:
    """Return the answers side by side; ``found``: way -> finished answer, or its text so far."""
    cards = []
    for way, (title, how) in WAYS.items():
        item = found.get(way)
        text = item if isinstance(item, str) else item.text if item is not None else ""
        waiting = "waiting ..." if item is None else "..."
        facts = _facts(item) if item is not None and not isinstance(item, str) else "<span>being answered</span>"
        cards.append(
            f'<article class="lab-card"><h4>{escape(title)}</h4><p class="ml-note-plain">{escape(how)}</p>'
            f'<p class="mm-said">{escape_lines(text.strip() or waiting)}</p>'
            f'<p class="ml-facts">{facts if item is not None else ""}</p>{_evidence(item)}</article>'
        )
    return f'<div class="lab-four">{"".join(cards)}</div>'


def _evidence(item: Any) -> str:
    """Return what an answer was given, folded away: documents, places and beginnings of its chunks."""
    found = () if item is None or isinstance(item, str) else item.retrieved
    if not found:
        return ""
    lines = "".join(
        f"<li><b>chunk {each.chunk_id}</b> {escape(one_line(each.place or each.title, 60))}, score {each.score:.2f}: "
        f"{escape(one_line(each.text, 140))}</li>"
        for each in found
    )
    return f'<details class="lab-evidence"><summary>Evidence</summary><ul class="lab-list">{lines}</ul></details>'


def _facts(answer: Any) -> str:
    each = answer.logprob / max(1, answer.n_tokens)
    facts = [
        f"{sum(answer.seconds.values()):.1f} s",
        plural(answer.n_tokens, "token"),
        f"log-probability {answer.logprob:.1f} ({each:.2f} a token)",
    ]
    if answer.retrieved:
        facts.append("chunks " + ", ".join(str(item.chunk_id) for item in answer.retrieved))
    if answer.memory_mass is not None:
        facts.append(f"{mass_words(answer.memory_mass)} of attention on memory")
    return " ".join(f"<span>{escape(fact)}</span>" for fact in facts)


def progress(share: float, words: str) -> str:
    """Return how far an experiment is."""
    return f'<div class="ml-line" role="status">{escape(words)} ({share:.0%}){bar(share, words)}</div>'


def policies(result: PolicyResult) -> tuple[str, Any, Any]:
    """Return what replaying found: a sentence and a table, recall by capacity, and its course at the smallest one."""
    if not result.rows:
        return progress(result.share, result.words), plots.recall_by_capacity([]), plots.recall_over_time([])
    done = result.share >= 1
    points = [(row.policy, 100 * row.capacity_tokens / result.tokens, 100 * overall(row)) for row in result.rows]
    smallest = min(row.capacity_tokens for row in result.rows)
    here = [row for row in result.rows if row.capacity_tokens == smallest]
    curves = [(row.policy, [(at, 100 * share) for at, share in row.curve]) for row in here]
    said = f'<p class="ml-line" role="status"><strong>{escape(result.words)}</strong></p>' if done else ""
    said = said or progress(result.share, result.words)
    return (
        said + _table(result),
        plots.recall_by_capacity(points),
        plots.recall_over_time(curves, f", with {smallest:,} tokens"),
    )


def overall(row: Any) -> float:
    """Return a replay's recall over questions, or over reading where nothing was asked."""
    shares = (row.recall_questions, row.recall_reading)
    return next((share for share in shares if share is not None), 1.0)


def _table(result: PolicyResult) -> str:
    head = "".join(
        f"<th>{name}</th>" for name in ("Policy", "Capacity", "Evicted", "Reading", "Questions", "Missed most")
    )
    rows = []
    for row in sorted(result.rows, key=lambda row: (row.capacity_tokens, -overall(row))):
        mark = " (yours)" if row.policy == result.used else ""
        missed = ", ".join(f"{chunk_id} ({times}x)" for chunk_id, times in list(row.missed.items())[:3]) or "none"
        cells = (
            f"{row.policy}{mark}", f"{number_words(row.capacity_tokens)} tokens", number_words(row.evicted),
            _percent(row.recall_reading), _percent(row.recall_questions), f"{missed}",
        )  # fmt: skip
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    note = (
        "Reading and Questions: of the chunks that a bank without limits would have fetched, the share that was still "
        "held. Missed most: chunks asked for after they had left."
    )
    return (
        f'<div class="lab-scroll" tabindex="0" role="region" aria-label="All replays"><table class="lab-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="mm-how-plot">{escape(note)}</p>'
    )


def _percent(share: float | None) -> str:
    return "not asked" if share is None else f"{share:.0%}"


def needle(step: Any) -> tuple[str, Any]:
    """Return how far the needle test is with the answers given, and its grid."""
    from memlong.evaluation.needle import OUTCOMES

    depths, capacities = places_of(step.tries)
    grid = np.full((len(capacities), len(depths)), np.nan)
    for each in step.tries:
        at = capacities.index(each.capacity_tokens), depths.index(each.depth)
        grid[at] = OUTCOMES.index(each.outcome)
    items = "".join(
        f"<li>depth {each.depth:.0%}, {number_words(each.capacity_tokens)} tokens: <b>{escape(each.outcome)}</b>, "
        f"“{escape(one_line(each.answer, 160))}”</li>"
        for each in step.tries
    )
    said = progress(step.share, step.words) if step.share < 1 else ""
    return f'{said}<ul class="lab-list">{items}</ul>', plots.needle_grid([100 * d for d in depths], capacities, grid)


def owed(rows: Sequence[Any]) -> tuple[str, Any]:
    """Return what an answer owes to each chunk, in words and as a picture."""
    if not rows:
        return empty("owed"), plots.owed_to_chunks([])
    whole = rows[0].logprob
    moves = [
        (f"chunk {row.left_out}" if row.left_out is not None else "all of memory", row.logprob - whole)
        for row in rows[1:]
    ]
    moves.sort(key=lambda move: move[1])
    words = f"With all its chunks the answer has a log-probability of {whole:.2f}."
    if moves:
        name, move = moves[0]
        words += f" Without {name} it moves by {move:+.2f}: " + (
            "that is what it needed most." if move < -0.5 else "none of them was needed."
        )
    return f'<p class="ml-line" role="status">{escape(words)}</p>', plots.owed_to_chunks(moves)


def answers(visit: Visit) -> list[tuple[str, int]]:
    """Return the conversation's answers from memory, newest first, as menu entries."""
    named = [
        (f"{number}. {one_line(exchange.question, 80)}", number - 1)
        for number, exchange in enumerate(visit.exchanges, start=1)
        if exchange.answer is not None and exchange.answer.retrieved
    ]
    return named[::-1]
