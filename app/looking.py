"""What a visitor does with memory: look at it at any step, pin, delete, bring back. No gradio, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app import asking
from app.replaying import needed_later
from app.rows.chunks import ChunkRow, Documents, Filter, chunk_rows, page_of, select
from app.rows.life import Life, life_of
from app.rows.log import LogFilter, log_events
from app.rows.timeline import Timeline, timeline_of
from app.sessions import Exchange, Visit
from app.text import chunk_number, number_words, plural
from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.trace.events import Event

if TYPE_CHECKING:
    from memlong.session.session import Session


WORKING = "Would it have been needed later? Working that out …"


@dataclass(frozen=True)
class Look:
    """What is being looked at.

    Attributes:
        step: the moment; None is now. colour, arrangement: of the map. chunk_id: the chosen chunk, or None.
        rows, page: of the table. log, log_page: of the event log. Pages count from 1.
    """

    step: int | None = None
    colour: str = "triggers"
    arrangement: str = "read"
    chunk_id: int | None = None
    rows: Filter = field(default_factory=Filter)
    page: int = 1
    log: LogFilter = field(default_factory=LogFilter)
    log_page: int = 1


def timeline(visit: Visit | None) -> Timeline:
    """Return a visitor's timeline, an empty one before anything was read."""
    session = visit.session if visit else None
    return timeline_of(session.recorder) if session is not None else Timeline()


def documents(visit: Visit | None) -> Documents:
    """Return a visitor's documents by id."""
    session = visit.session if visit else None
    return session.documents if session is not None else {}


def life(visit: Visit | None, look: Look, at_once: bool = False) -> Life | None:
    """Return the life of the chosen chunk, or None.

    Args:
        at_once: leave out whether it would have been needed later where that takes long, and say that it is coming.
    """
    if visit is None or look.chunk_id is None:
        return None
    visit.settle_layers()
    found = life_of(timeline(visit), look.chunk_id, documents(visit), look.step)
    if found is None or found.here:
        return found
    later = needed_later(visit, look.chunk_id, look.step, at_once)
    return replace(found, later=WORKING if later is None else later)


def rows(visit: Visit | None, look: Look, every: list[ChunkRow] | None = None) -> tuple[list[ChunkRow], str, int]:
    """Return one page of the table, what it is in words, and its number; ``every``: all rows, where they are known."""
    every = chunk_rows(timeline(visit), look.step) if every is None else every
    found = select(every, look.rows, documents(visit))
    page, start, end = page_of(len(found), look.page)
    return found[start:end], _page_words(len(found), start, end, "chunk"), page


def log(visit: Visit | None, look: Look) -> tuple[list[Event], str, int]:
    """Return one page of the event log, newest first, what it is in words, and its number."""
    if visit is not None and "LayerMass" in look.log.kinds:
        visit.settle_layers()
    found = log_events(timeline(visit), look.log._replace(until=look.step))
    page, start, end = page_of(len(found), look.log_page)
    return found[start:end], _page_words(len(found), start, end, "event"), page


def act(visit: Visit, what: str, chunk_id: int) -> str:
    """Pin, unpin, delete or restore a chunk, in a turn of its own; returns what came of it in words.

    Raises:
        ConfigError: when the chunk is not where it would have to be, for another deed, or before anything was read.
        BankError: when too much is pinned.
    """
    session = visit.session
    if session is None:
        raise ConfigError("Nothing has been read yet", "Chunks in memory", "Open the tab Read and take a sample")
    run, name = visit.engine.run, f"Chunk {chunk_number(chunk_id)}"
    if what in ("pin", "unpin", "delete") and chunk_id not in session.bank:
        raise ConfigError(f"{name} has left memory", "Chunks in memory", "Bring it back first")
    if what == "pin":
        run(session.pin, chunk_id)
        return f"{name} is pinned: it cannot be evicted."
    if what == "unpin":
        run(session.unpin, chunk_id)
        return f"{name} can be evicted again."
    if what == "delete":
        run(session.delete_chunk, chunk_id)
        return f"{name} is deleted. You can bring it back."
    if what == "restore":
        refuse_bringing(visit, session, chunk_id)
        left = run(session.restore, chunk_id)
        named = f"Chunk{'s' * (len(left) > 1)} {', '.join(str(chunk_number(each)) for each in left)}"
        gone = f" {named} had to leave for it." if left else ""
        return f"{name} is back in memory, and pinned.{gone} Ask again to see what it changes."
    raise ConfigError(f"{what!r}", "pin, unpin, delete or restore", "Use the buttons")


def refuse_bringing(visit: Visit, session: Session, chunk_id: int) -> None:
    """Raise ConfigError for a chunk that cannot be brought back: the library tells programs of it by its id."""
    name = f"Chunk {chunk_number(chunk_id)}"
    if chunk_id in session.bank:
        raise ConfigError(f"{name} is in memory", "Chunks that left it", "Nothing needs doing")
    doc_id, _ = timeline(visit).documents_of.get(chunk_id, (-1, 0))
    if doc_id < 0:
        raise ConfigError(f"There is no {name.lower()}", "Chunks that were read", "Choose one of the map or the table")
    if not session.documents[doc_id].text:
        given = f"The document of {name.lower()} was removed"
        raise ConfigError(given, "Chunks of documents that are here", "Read the document again")


def questions(visit: Visit | None) -> list[str]:
    """Return the questions asked so far, newest first, each once."""
    asked = [exchange.question for exchange in visit.exchanges] if visit else []
    return list(dict.fromkeys(reversed(asked)))


def ask_again(visit: Visit, question: str | None) -> Iterator[tuple[Exchange | None, Exchange]]:
    """Ask an earlier question again, as it was asked; yields the earlier exchange and the growing new one.

    What it was asked with is kept, the seed too, so that only memory makes the difference. Of several answers the last
    that chunks were fetched for is the earlier one: memory makes no difference to one from nothing.

    Raises:
        ConfigError: when there is no question to ask again, or an answer is being written.
    """
    if not question:
        raise ConfigError("No question was asked yet", "A question of the tab Ask", "Ask one there, then come back")
    earlier = [each for each in visit.exchanges if each.question == question and each.answer is not None]
    fetched = [each for each in earlier if each.evidence]
    before = next(reversed(fetched or earlier), None)
    for exchange in asking.ask(visit, question, (before and before.options) or AskOptions()):
        yield before, exchange


def _page_words(n: int, start: int, end: int, noun: str) -> str:
    if not n:
        return f"No {noun}s to show."
    return f"{number_words(start + 1)} to {number_words(end)} of {plural(n, noun)}"
