"""What the Lab's buttons do: each handler yields the values of its panel while its experiment goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from app import lab, replaying, what_if
from app.sessions import Exchange, Visit
from app.tabs import lab_pieces as pieces
from app.tabs import life
from app.text import chunk_number, one_line
from memlong.config import AskOptions

SHOW_EVERY = 0.2  # seconds between two pictures of answers that grow


def question(visit: Visit, given: str, own: bool = True) -> Any:
    """Return what to ask unless somebody typed or asked their own: the newest question, or one worth asking."""
    asked = [exchange.alone for exchange in visit.exchanges][-1:] or list(visit.shelf.questions[:1])
    return gr.skip() if (own and given.strip()) or not asked else asked[0]


def id_of(visit: Visit, number: int | None) -> int | None:
    """Return the id of an answer of the conversation, which stays its own when that is cleared and begun anew."""
    exchange = visit.exchanges[number] if number is not None and 0 <= number < len(visit.exchanges) else None
    return exchange.answer.answer_id if exchange and exchange.answer else None


def to_try(visit: Visit, shown: int | None, picked: int | None) -> int | None:
    """Return the answer to show to whoever opens the tab: the one with this id that was picked, else the newest.

    While an experiment runs the one that is shown stays.
    """
    if visit.experimenting:
        return shown
    numbers = [number for _, number in pieces.answers(visit)]
    newest = numbers[0] if numbers else None
    return next((number for number in numbers if picked is not None and id_of(visit, number) == picked), newest)


def documents(visit: Visit, chosen: int | None) -> Any:
    """Return the menu of documents that a sentence can be hidden in."""
    there = lab.documents(visit.session) if visit.session else []
    named = [(one_line(document.title, 60), document.doc_id) for document in there]
    known = [doc_id for _, doc_id in named]
    return gr.Dropdown(choices=named, value=chosen if chosen in known else next(iter(known), None))


def menus(visit: Visit, chosen: int | None, picks: Sequence[list] | None = None) -> list[Any]:
    """Return the menus of answers, of the chosen answer's chunks, of other chunks held, and of those that left.

    ``picks``: what is chosen in the last three, and stays; None empties them.
    """
    named = pieces.answers(visit)
    chosen = chosen if any(chosen == number for _, number in named) else (named[0][1] if named else None)
    groups = what_if.choices(visit, chosen)
    chunks = [
        gr.Dropdown(
            choices=[(each.words, chunk_number(each.chunk_id)) for each in group], value=value or [], multiselect=True,
            allow_custom_value=True,
        )
        for group, value in zip(groups, picks or ([], [], []), strict=True)
    ]  # fmt: skip
    return [gr.Dropdown(choices=named, value=chosen), *chunks]


def ways(visit: Visit, asked: str, tokens: int) -> Iterator[list[Any]]:
    """Yield the four answers while they grow."""
    found, shown = lab.Ways({}), 0.0
    for found in lab.four_ways(visit, asked, AskOptions(max_tokens=int(tokens))):
        # Every picture of four cards costs the page more time than a small model takes for a token.
        if time.monotonic() - shown >= SHOW_EVERY or found.without is not None:
            shown = time.monotonic()
            yield [pieces.four(found)]
    if visit.stop_lab.is_set():
        yield [pieces.four(found, stopped=True)]


def policies(visit: Visit, shares: list[float]) -> Iterator[list[Any]]:
    """Yield how far replaying is, then what it found."""
    result = replaying.PolicyResult(0.0, "")
    for result in replaying.policies(visit, shares or replaying.SHARES):
        yield (
            pieces.policies(result) if result.share >= 1 else [pieces.progress(result.share, result.words), *_skips(3)]
        )
    if visit.stop_lab.is_set() and result.share < 1:
        yield pieces.policies(result)


def owed(visit: Visit, number: int | None) -> Iterator[list[Any]]:
    """Yield what an answer owes to its chunks, one after the other."""
    parts: what_if.Owed = ()
    answer = what_if.exchange_of(visit, number).answer
    for parts in what_if.owed(visit, number):
        yield list(pieces.owed(parts, answer)) if parts else [pieces.progress(0.0, "Weighing"), gr.skip()]
    if visit.stop_lab.is_set():
        yield list(pieces.owed(parts, answer, stopped=True))


def changed(visit: Visit, number: int | None, without: list, held: list, gone: list) -> Iterator[list[Any]]:
    """Yield the answer beside what it becomes with other chunks."""
    out, put = what_if.numbers(without or []), what_if.numbers([*(held or []), *(gone or [])])
    before = what_if.exchange_of(visit, number)
    step, shown = what_if.Changed(""), 0.0
    for step in what_if.ask_again(visit, number, out, put):
        if time.monotonic() - shown < SHOW_EVERY and step.answer is None:
            continue
        shown = time.monotonic()
        after = Exchange(before.question, step.text or "...", step.answer, steps=step.steps)
        yield [pieces.moved(step) + life.comparison(before, after, next(iter([*put, *out]), None))]
    if visit.stop_lab.is_set():
        after = Exchange(before.question, step.text or "(nothing yet)", step.answer, steps=step.steps)
        yield [pieces.note(pieces.STOPPED) + life.comparison(before, after, None)]


def keep(visit: Visit, held: list, gone: list) -> Iterator[list[Any]]:
    """Yield what came of pinning the chosen chunks."""
    yield [pieces.note(what_if.keep(visit, what_if.numbers([*(held or []), *(gone or [])])))]


def needle(visit: Visit, sentence: str, asked: str, expected: str, *where: Any) -> Iterator[list[Any]]:
    """Yield the grid while it fills; ``where``: document, begin in percent, tokens, depths, shares."""
    from memlong.evaluation.needle import Needle, Step

    doc_id, start, tokens, depths, shares = where
    hay = lab.Hay(doc_id, int(tokens), float(start) / 100)
    drawn, step = -1, Step(0.0, "", ())
    for step in lab.needle(visit, Needle(sentence, asked, expected), hay, int(depths), shares):
        said, grid, tries = pieces.needle(step)
        yield [said, *([grid, tries] if len(step.tries) != drawn else _skips(2))]
        drawn = len(step.tries)
    if visit.stop_lab.is_set():
        yield list(pieces.needle(step, stopped=True))


def _skips(count: int) -> list[Any]:
    return [gr.skip() for _ in range(count)]


HANDLERS: dict[str, Callable[..., Iterator[Any]]] = {
    "ways": ways, "policies": policies, "owed": owed, "changed": changed, "keep": keep, "needle": needle,
}  # fmt: skip
