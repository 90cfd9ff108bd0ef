"""The life of one chunk: everything that ever happened to it, in order and in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.rows.chunks import ChunkRow, Documents, chunk_row, place_of, text_of, title_of
from app.rows.timeline import Timeline
from app.rows.words import mass_words, query_words
from app.text import number_words, plural
from memlong.trace import events as e

MOST_STATIONS = 400
"""Stations shown at once; a chunk found more often than that shows its first and its latest ones."""


@dataclass(frozen=True, slots=True)
class Looking:
    """How much one layer looked at a chunk, as a mean over an answer's tokens.

    Attributes:
        mass: mean over heads. head, most: the head that looked most, and how much; None where heads are not known.
    """

    layer: int
    mass: float
    head: int | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Station:
    """One thing that happened to a chunk. ``words`` is plain text of a stranger: escape it.

    Attributes:
        step: event clock. what: written, retrieved, attended, pinned, unpinned, evicted, deleted, restored.
        future: whether it happened after the step that is being looked at.
        layers: of an answer that attended, lowest first.
    """

    step: int
    what: str
    words: str
    future: bool = False
    layers: tuple[Looking, ...] = ()


@dataclass(frozen=True, slots=True)
class Life:
    """A chunk's life.

    Attributes:
        row: the chunk at the step looked at. title, place, text: of its document. stations: in order.
        left_out: stations in the middle that are not listed. later: whether it would have been needed after it left.
    """

    row: ChunkRow
    title: str
    place: str
    text: str
    stations: tuple[Station, ...]
    left_out: int = 0
    later: str = ""

    @property
    def here(self) -> bool:
        """Whether the bank holds it."""
        return self.row.state in ("held", "pinned")


def life_of(timeline: Timeline, chunk_id: int, documents: Documents, step: int | None = None) -> Life | None:
    """Return a chunk's life, or None when there was no such chunk by ``step``."""
    row = chunk_row(timeline, chunk_id, step)
    if row is None:
        return None
    stations = _stations(timeline, chunk_id, documents, len(timeline.events) if step is None else step)
    left_out = max(0, len(stations) - MOST_STATIONS)
    if left_out:
        stations = stations[: MOST_STATIONS // 2] + stations[-MOST_STATIONS // 2 :]
    return Life(
        row,
        title_of(row.doc_id, documents),
        place_of(row, documents),
        text_of(row, documents),
        tuple(stations),
        left_out,
    )


def summary(life: Life) -> str:
    """Return a life in one sentence of plain words."""
    row = life.row
    state = {
        "held": "In memory", "pinned": "In memory and pinned: it cannot be evicted",
        "evicted": f"Evicted: {row.rule}",
        "deleted": f"Not in memory: {row.rule}",
    }[row.state]  # fmt: skip
    attention = f", {mass_words(row.attention)} of all attention" if row.attention else ", no attention yet"
    triggered = f"Triggered {plural(row.trigger_count, 'time')}{attention}"
    return f"{state}. {triggered}, {plural(row.age, 'chunk')} written since."


def _stations(timeline: Timeline, chunk_id: int, documents: Documents, now: int) -> list[Station]:
    about = timeline.about.get(chunk_id, [])[:]
    stations = [
        _station(event, chunk_id, timeline, documents, now)
        for event in about
        if not isinstance(event, e.TokenGenerated | e.LayerMass)
    ]
    removed = _document_removed(timeline, chunk_id, now)
    stations += _attended(about, chunk_id, timeline, now) + ([removed] if removed else [])
    return sorted(stations, key=lambda station: station.step)


def _station(event: e.Event, chunk_id: int, timeline: Timeline, documents: Documents, now: int) -> Station:
    what = {"ChunkWritten": "written"}.get(event.kind, event.kind.lower())
    return Station(event.step, what, _words(event, chunk_id, timeline, documents), event.step > now)


def _words(event: e.Event, chunk_id: int, timeline: Timeline, documents: Documents) -> str:
    """Return what happened, as it goes on after the one word that names it."""
    if isinstance(event, e.Retrieved):
        hit = next(hit for hit in event.hits if hit.chunk_id == chunk_id)
        times = "first trigger" if hit.trigger_count == 1 else f"trigger {number_words(hit.trigger_count)}"
        query = query_words(event, timeline, documents)
        return f"as number {hit.rank} with score {hit.score:.3f} ({times}) by {query}"
    if isinstance(event, e.ChunkWritten):
        title = title_of(event.doc_id, documents)
        return f"from {title}, position {event.index_in_doc + 1}, {plural(event.n_tokens, 'token')}"
    if isinstance(event, e.Evicted):
        return (
            f"after {plural(event.trigger_count, 'trigger')}, {plural(event.age_chunks, 'chunk')} after it was "
            f"written. Why: {event.rule}. The bank held {number_words(event.occupancy_tokens)} tokens, "
            f"{number_words(event.capacity_tokens)} are allowed (policy {event.policy})"
        )
    if isinstance(event, e.Restored):
        return f"with its {plural(event.trigger_count, 'trigger')}; its window was read again"
    return {"Pinned": "it cannot be evicted", "Unpinned": "it can be evicted again"}.get(event.kind, "by request")


def _attended(about: Iterable[e.Event], chunk_id: int, timeline: Timeline, now: int) -> list[Station]:
    """Return one station for each answer that attended to the chunk: how much, where most, and every layer."""
    tokens: dict[int, list[tuple[e.TokenGenerated, float]]] = {}
    layers: dict[int, dict[int, list[e.LayerMass]]] = {}
    for event in about:
        if isinstance(event, e.TokenGenerated):
            tokens.setdefault(event.answer_id, []).append((event, _mass(event, chunk_id)))
        elif isinstance(event, e.LayerMass):
            layers.setdefault(event.answer_id, {}).setdefault(event.layer, []).append(event)
    stations = []
    for answer_id, looked in tokens.items():
        peak, most = max(looked, key=lambda pair: pair[1])
        mean = sum(mass for _, mass in looked) / len(looked)
        by_layer = layers.get(answer_id, {})
        lookings = tuple(_looking(layer, by_layer[layer], chunk_id, len(looked)) for layer in sorted(by_layer))
        words = (
            f"in answer {timeline.number_of(answer_id)}: {mass_words(mean)} of attention over "
            f"{plural(len(looked), 'token')}, most for {peak.text!r} ({mass_words(most)}){_where(lookings)}"
        )
        last = looked[-1][0].step
        stations.append(Station(last, "attended", words, last > now, lookings))
    return stations


def _where(lookings: tuple[Looking, ...]) -> str:
    if not lookings:
        return ""
    top = max(lookings, key=lambda each: each.mass)
    head = f", there in head {top.head} ({mass_words(top.most)})" if top.head is not None else ""
    return f"; most in layer {top.layer} ({mass_words(top.mass)}){head}"


def _mass(event: e.TokenGenerated | e.LayerMass, chunk_id: int) -> float:
    return dict(event.chunk_mass or ()).get(chunk_id, 0.0)


def _looking(layer: int, events: Sequence[e.LayerMass], chunk_id: int, n_tokens: int) -> Looking:
    """Return what one layer paid to a chunk, over all tokens of an answer; tokens without an event paid nothing."""
    heads: list[float] = []
    for event in events:
        place = next((at for at, (each, _) in enumerate(event.chunk_mass) if each == chunk_id), None)
        for head, shares in enumerate(event.head_chunk_mass or ()):
            if head == len(heads):
                heads.append(0.0)
            heads[head] += 0.0 if place is None else shares[place]
    mass = sum(_mass(event, chunk_id) for event in events) / n_tokens
    if not any(heads):  # not recorded, or so little in each that nothing of it is left
        return Looking(layer, mass)
    head = max(range(len(heads)), key=heads.__getitem__)
    return Looking(layer, mass, head, heads[head] / n_tokens)


def _document_removed(timeline: Timeline, chunk_id: int, now: int) -> Station | None:
    step = timeline.removed.get(timeline.documents_of.get(chunk_id, (-1, 0))[0])
    return None if step is None else Station(step, "deleted", "because its document was removed", step > now)
