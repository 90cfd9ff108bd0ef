"""The life of a chunk and the headline as HTML. All that comes from a document is escaped; no gradio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.rows.chunks import headline
from app.rows.life import Life, Looking, Station, summary
from app.rows.timeline import Timeline
from app.rows.words import event_words, mass_words
from app.sessions import Exchange, Visit
from app.tabs.pieces import CLICKS, asked_first, button
from app.text import chunk_number, escape, escape_lines, number_words, plural

if TYPE_CHECKING:
    from memlong.session.results import Answer

NOTHING_CHOSEN = (
    '<div class="ml-empty"><strong>Choose a chunk.</strong> Click a cell of the map or a row of the table, and its '
    "life appears here: when it was written, what found it, how much attention it got, and why it left.</div>"
)
NOTHING_READ = (
    '<div class="ml-empty"><strong>Memory is empty.</strong> Open the tab Read and take a sample: its chunks '
    "appear here while it is being read.</div>"
)
# A newly chosen life is brought into view where it lies below the map, as on a phone; a redrawn one is left alone.
FOLLOW = (
    CLICKS
    + """
let last = '';
watch('value', () => {
  const life = element.querySelector('.mm-life, .mm-not-yet');
  const id = life ? life.dataset.id : '';
  const box = element.getBoundingClientRect();
  if (id && id !== last && (box.top > window.innerHeight - 120 || box.bottom < 60)) {
    element.scrollIntoView({block: 'start'});
  }
  last = id;
});
"""
)
_STATES = {"held": "in memory", "pinned": "pinned", "evicted": "evicted", "deleted": "deleted"}


def head(timeline: Timeline, step: int | None) -> str:
    """Return the bank in one line, or what to do when nothing was read."""
    words = headline(timeline, step)
    if step is None:
        return f'<p class="ml-line" role="status">{escape(words)}</p>' if words else NOTHING_READ
    then = escape(words) if words else "Nothing had been read at this moment."
    return f'<p class="ml-line" role="status"><strong>Looking back.</strong> {then}</p>'


def moment(timeline: Timeline, step: int | None, visit: Visit) -> str:
    """Return what happened at the step that is looked at."""
    if not timeline.events:
        return ""
    if step is None:
        return f'<p class="ml-line mm-moment">Now, after event {number_words(timeline.stops[-1])}.</p>'
    documents = visit.session.documents if visit.session else {}
    words = escape(event_words(timeline.events[step], timeline, documents))
    return f'<p class="ml-line mm-moment" role="status"><b>Event {number_words(step)}</b> {words}</p>'


def life_html(life: Life | None, timeline: Timeline | None = None, chunk_id: int | None = None) -> str:
    """Return a chunk's life with what can be done about it, or how to choose one.

    ``timeline``, ``chunk_id``: of the chosen chunk; at a moment before it was read it is said when that was.
    """
    if life is None:
        return _not_read_yet(timeline, chunk_id) or NOTHING_CHOSEN
    row = life.row
    number = chunk_number(row.chunk_id)
    facts = f"{number_words(row.n_tokens)} tokens · {plural(row.trigger_count, 'trigger')}"
    return (
        f'<section class="mm-life" data-id="{row.chunk_id}" aria-label="Life of chunk {number}">'
        f"<header><h3>Chunk {number}</h3>"
        f'<span class="mm-state mm-{row.state}">{_STATES[row.state]}</span></header>'
        f'<p class="mm-where">{escape(life.title)} · {escape(life.place)} · {facts}</p>'
        f'<p class="mm-sum">{escape(summary(life))}</p>'
        f'{_later(life)}<div class="mm-does">{_actions(life)}</div>'
        f"{_stations(life)}{_text(life)}</section>"
    )


def _not_read_yet(timeline: Timeline | None, chunk_id: int | None) -> str:
    if timeline is None or chunk_id is None or chunk_id not in timeline.about:
        return ""
    number, step = chunk_number(chunk_id), timeline.about[chunk_id][0].step
    return (
        f'<div class="ml-empty mm-not-yet" data-id="{chunk_id}"><strong>Chunk {number} was not read yet.</strong> '
        f"It was written at event {number_words(step)}: its life appears from there on.</div>"
    )


def _later(life: Life) -> str:
    return f'<p class="mm-sum mm-later">{escape(life.later)}</p>' if life.later else ""


def _actions(life: Life) -> str:
    chunk_id, label = life.row.chunk_id, f"chunk {chunk_number(life.row.chunk_id)}"
    if not life.here:
        return button("Bring back", "restore", chunk_id, style="ml-strong", label=f"Bring back {label}")
    first = ("Unpin", "unpin") if life.row.state == "pinned" else ("Pin", "pin")
    return button(first[0], first[1], chunk_id, label=f"{first[0]} {label}") + button(
        "Delete", "delete", chunk_id, label=f"Delete {label}"
    )


def _stations(life: Life) -> str:
    half = len(life.stations) // 2
    items = []
    for at, station in enumerate(life.stations):
        if life.left_out and at == half:
            items.append(f'<li class="mm-more">{plural(life.left_out, "event")} in between</li>')
        items.append(_station(station))
    return f'<ol class="mm-stations" tabindex="0" aria-label="What happened to it">{"".join(items)}</ol>'


def _station(station: Station) -> str:
    later = " <em>(later than the moment you look at)</em>" if station.future else ""
    dim = " mm-future" if station.future else ""
    return (
        f'<li class="mm-at-{station.what}{dim}"><b>{escape(station.what.capitalize())}</b> '
        f"<span>{escape(station.words)}{later}</span>{_layers(station)}<time>event {number_words(station.step)}</time>"
        "</li>"
    )


def _layers(station: Station) -> str:
    """Return a bar for each layer that could look: the higher, the more it looked."""
    if not station.layers:
        return ""
    most = max(each.mass for each in station.layers) or 1.0
    bars = "".join(
        f'<i style="height:{100 * each.mass / most:.0f}%" title="{_looked(each)}"></i>' for each in station.layers
    )
    first, last = station.layers[0].layer, station.layers[-1].layer
    return (
        f'<span class="mm-layers" role="img" aria-label="Attention by layer, {first} to {last}">{bars}</span>'
        f'<span class="mm-layers-ends"><span>layer {first}</span><span>{last}</span></span>'
        f"{_each_layer(station)}"
    )


def _each_layer(station: Station) -> str:
    """Return the bars in words, folded away: a phone and a keyboard cannot point at one."""
    items = "".join(f"<li>{_looked(each)}</li>" for each in station.layers)
    return f'<details class="lab-evidence"><summary>Layer by layer</summary><ul class="lab-list">{items}</ul></details>'


def _looked(each: Looking) -> str:
    head = f", most in head {each.head}: {mass_words(each.most)}" if each.head is not None else ""
    return f"layer {each.layer}: {mass_words(each.mass)}{head}"


def _text(life: Life) -> str:
    if not life.text:
        return '<p class="ml-note">Its document was removed, and its text with it.</p>'
    text = escape_lines(life.text.strip())
    return f'<h4 class="mm-h">Its text</h4><div class="mm-text" tabindex="0">{text}</div>'


def comparison(before: Exchange | None, after: Exchange | None, chunk_id: int | None) -> str:
    """Return an answer beside the earlier answer to the same question."""
    if after is None:
        return ""
    sides = [("Before", before), ("Now", after)] if before else [("Answer", after)]
    articles = "".join(_side(name, each, chunk_id) for name, each in sides)
    title = "The answer before and now" if before else "The answer now"
    return f'<h3 class="ml-h2">{title}</h3><div class="mm-two">{articles}</div>'


def _side(name: str, exchange: Exchange, chunk_id: int | None) -> str:
    answer = exchange.answer
    if exchange.error is not None:
        return f"<article><h4>{name}</h4><p>{escape(exchange.error)}</p></article>"
    facts = ""
    if answer is not None:
        facts = f"log-probability {answer.logprob:.2f} over {plural(answer.n_tokens, 'token')}"
        if answer.memory_mass is not None:
            facts += f" · {mass_words(answer.memory_mass)} of attention on memory"
        facts += f" · {_found(answer, chunk_id)}"
    steps = "".join(f'<p class="ml-step">{asked_first(*step)}</p>' for step in exchange.asked_first)
    text = escape_lines(exchange.text.strip() or "(no words)")
    return f'<article><h4>{name}</h4>{steps}<p class="mm-said">{text}</p><p class="mm-where">{facts}</p></article>'


def _found(answer: Answer, chunk_id: int | None) -> str:
    own = [item.chunk_id for item in answer.retrieved]
    ids = [item.chunk_id for item in answer.evidence]
    found = f"retrieved chunks {_numbers(own)}" if own else "nothing retrieved"
    if rest := ids[len(own) :]:
        found += f", and {_numbers(rest)} for what was asked first"
    if chunk_id is None:
        return found
    return found + (
        f" (chunk {chunk_number(chunk_id)} among them)" if chunk_id in ids else f" (not chunk {chunk_number(chunk_id)})"
    )


def _numbers(chunk_ids: Sequence[int]) -> str:
    return ", ".join(str(chunk_number(each)) for each in chunk_ids)
