"""What a visitor does with documents: add, read, stop, go on, remove, read anew. No gradio, no torch.

Every function takes the visitor and changes their shelf and memory; the pages only show what is there.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from app.documents import Document, Limits, read_document, refusals
from app.samples import sample
from app.sessions import Visit
from app.settings import Settings
from app.shelf import Item, from_sample, from_text
from app.text import plural
from memlong.chunking import Chunk, iter_chunks
from memlong.errors import Cancelled, ConfigError, DocumentError, MemLongError

if TYPE_CHECKING:
    from memlong.session.results import ReadEstimate, ReadProgress

CUT_AT_ONCE = 128  # chunks cut in one turn: a tenth of a second, however long the document
STEP_SECONDS = 1.0  # of one turn of reading at most, or a slow machine would keep questions waiting
TWIN = "The same text is here already. Read twice, it takes room in memory twice."
SHOW_EVERY = 0.2  # seconds between two pictures of reading: browsers fall behind on more than 5 a second


def limits_of(settings: Settings) -> Limits:
    """Return the document limits that the settings allow."""
    return Limits(file_bytes=settings.upload_mb * 1_000_000, characters=settings.characters)


def add_files(visit: Visit, files: Iterable[tuple[Path, str]], limits: Limits) -> Iterator[Item]:
    """Open uploaded files one after the other; yields each before and after it is opened.

    What is wrong with a file is noted at that file; the others are not held up.
    """
    items = [(path, visit.shelf.add(name)) for path, name in files]
    try:
        for path, item in items:
            yield item
            try:
                document = read_document(path, item.name, limits, cancel=lambda: visit.closed)
                item.document = _with_note_of_twin(visit, document)
                item.state = "waiting"
                estimate(visit, item)
            except Cancelled:
                return
            except MemLongError as error:
                item.fail(error)
            yield item
    finally:
        for _, item in items:
            if item.state == "opening":
                given = f"{item.name} was not opened before the page was closed"
                item.fail(DocumentError(given, "A page that stays until then", "Add it again"))


def refuse_large(visit: Visit, name: str, n_bytes: int, limits: Limits) -> Item:
    """Note at a file that it is too large; its browser kept it back, so there is nothing to open."""
    item, error = visit.shelf.add(name), refusals.too_large(n_bytes, limits)
    item.fail(DocumentError(f"{item.name}: {error.given}", error.allowed, error.do))
    return item


def add_text(visit: Visit, text: str, title: str, limits: Limits) -> Item:
    """Add pasted text. Raises DocumentError when it is empty or too long."""
    document = _with_note_of_twin(visit, from_text(text, title, limits))
    item = visit.shelf.add(title or "Pasted text", document)
    estimate(visit, item)
    return item


def _with_note_of_twin(visit: Visit, document: Document) -> Document:
    """Return a document, with a note when its text is here already: it may have been added by mistake."""
    if not any(item.document is not None and item.document.text == document.text for item in visit.shelf):
        return document
    return replace(document, warnings=(*document.warnings, TWIN))


def add_sample(visit: Visit, name: str) -> Item:
    """Add a text that ships with the app, or return the one that was added before."""
    chosen = sample(name)
    with visit.lock:  # a second click comes while the first one still opens the file
        for item in visit.shelf:
            if item.questions and item.title == chosen.title and item.state != "failed":
                return item
        item = visit.shelf.add(chosen.title, from_sample(chosen), chosen.questions)
    estimate(visit, item)
    return item


def estimate(visit: Visit, item: Item) -> ReadEstimate | None:
    """Work out what reading a document will take; None while the model is loading (it is done before reading)."""
    if item.document is None or not visit.engine.state.ready:
        return None
    session, text = visit.memory(), item.document.text
    found = session.estimate(text, _cut(visit, text))
    speed = visit.engine.tokens_per_second
    seconds = found.n_tokens / speed if found.seconds is None and speed else found.seconds
    item.estimate = replace(found, seconds=seconds)
    return item.estimate


def _cut(visit: Visit, text: str) -> list[Chunk]:
    """Cut a text into chunks, some at a turn: a library of text takes a while, and others want to ask."""
    session, chunks = visit.memory(), []
    pieces = iter_chunks(session.tokenizer, text, session.config.chunk_tokens, session.config.whole_sentences)
    turns = visit.engine.steps(iter(lambda: list(islice(pieces, CUT_AT_ONCE)), []), "reading")
    for some in turns:
        chunks += some
        if visit.closed:
            turns.close()
            raise Cancelled("The page was closed")
    return chunks


def read_all(visit: Visit, show_every: float = SHOW_EVERY, only: Item | None = None) -> Iterator[Item | None]:
    """Read everything that waits, one document after the other; yields what is being read, now and then.

    Waits for the model first (yielding None). A second call while one is at work only returns: what it wants, and of
    "everything" also what is added meanwhile, is read by the first. Ends early when ``visit.stop_reading`` is set; what
    was read stays. When its page goes away it ends too, and :func:`go_on` has it go on.

    Args:
        only: the one document that is wanted.
    """
    with visit.lock:
        if only is None:
            visit.wants_all = True
        else:
            only.wanted = True
    yield from _read_wanted(visit, show_every)


def _read_wanted(visit: Visit, show_every: float) -> Iterator[Item | None]:
    with visit.lock:
        if visit.reading:
            return
        visit.reading, visit.interrupted = True, False
        visit.stop_reading.clear()
    try:
        while not visit.engine.wait(0.5) and not visit.stop_reading.is_set():
            if visit.engine.state.error:
                raise visit.engine.state.error
            yield None
        while not visit.stop_reading.is_set() and (item := visit.shelf.next_unread(visit.wants_all)) is not None:
            yield from _read_one(visit, item, show_every)
    except GeneratorExit:
        visit.interrupted = not visit.stop_reading.is_set()
        raise
    finally:
        visit.reading = False
        if not visit.interrupted:  # what Stop left is wanted no longer
            visit.wants_all = False
            for each in visit.shelf:
                each.wanted = False


def go_on(visit: Visit, show_every: float = SHOW_EVERY) -> Iterator[Item | None]:
    """Go on with reading that the visitor's earlier page was at when it went away; yields as :func:`read_all` does.

    That page's reading may still be at its last step, or not know yet that it is alone: then it is looked on.
    """
    while visit.reading and not visit.closed:
        time.sleep(show_every)
        yield None
    if visit.interrupted and not visit.closed:
        yield from _read_wanted(visit, show_every)


def _read_one(visit: Visit, item: Item, show_every: float) -> Iterator[Item]:
    try:
        if item.estimate is None:
            estimate(visit, item)
        steps = _steps(visit, item)
        yield item
        shown = time.monotonic()
        try:
            for item.progress in steps:
                visit.engine.note_speed(item.progress.tokens_per_second)
                if time.monotonic() - shown >= show_every:
                    shown = time.monotonic()
                    yield item
        finally:
            steps.close()
            _settle(visit, item)
    except Cancelled:
        return
    except MemLongError as error:
        item.fail(error)
    yield item


def _steps(visit: Visit, item: Item) -> Generator[ReadProgress, None, None]:
    """Return the reading of an item by turns, opened now or gone on with."""
    session, document = visit.memory(), item.document
    if document is None:
        raise DocumentError(f"{item.name} was not opened", "A document with text", "Add it again")
    if item.state != "stopped" or item.doc_id is None:
        chunks = _cut(visit, document.text)
        parts = (document.text, document.title, document.spans, chunks)
        doc_id = visit.engine.run(session.open, *parts, kind="reading")
        item.doc_ids.append(doc_id)
    assert item.doc_id is not None
    visit.emptied = False
    session.speed = session.speed or visit.engine.tokens_per_second
    item.state = "reading"
    return visit.engine.steps(_while_wanted(visit, item, session.read_steps(item.doc_id, STEP_SECONDS)), "reading")


def _while_wanted(visit: Visit, item: Item, steps: Iterator[ReadProgress]) -> Iterator[ReadProgress]:
    """Ask inside the turn whether to go on: between two turns the document may have been removed."""
    while item.state == "reading" and not visit.stop_reading.is_set():
        progress = next(steps, None)
        if progress is None:
            return
        yield progress


def _settle(visit: Visit, item: Item) -> None:
    """Note how reading ended, when it did not end by the removal of the document."""
    session, doc_id = visit.session, item.doc_id
    if session is None or doc_id is None or item.state != "reading":
        return
    visit.engine.run(session.stop_reading, doc_id)  # does nothing to a document that was read to its end
    item.report = session.report(doc_id)
    item.state = "done" if item.report.status == "done" else "stopped"


def stop(visit: Visit) -> None:
    """Stop reading after the batch at hand; what was read stays, and can be gone on with."""
    visit.stop_reading.set()


def remove(visit: Visit, item_id: int) -> None:
    """Remove a document and its chunks. Raises DocumentError when there is none of this number."""
    item = visit.shelf.get(item_id)
    item.state = "removed"
    visit.shelf.remove(item)
    _leave_memory(visit, item.doc_id)


def read_again(visit: Visit, item_id: int) -> Item:
    """Take a document out of memory and have it wait to be read anew."""
    item = visit.shelf.get(item_id)
    if item.document is None:
        raise DocumentError(f"{item.name} was not opened", "A document with text", "Add it again")
    doc_id = item.doc_id
    item.state, item.progress, item.report = "waiting", None, None  # a reading of it ends at its next step
    _leave_memory(visit, doc_id)
    return item


def _leave_memory(visit: Visit, doc_id: int | None) -> None:
    session = visit.session
    if session is not None and doc_id is not None and session.documents[doc_id].status != "removed":
        visit.engine.run(session.remove_document, doc_id)


def refresh_reports(visit: Visit) -> None:
    """Count again how many chunks of each document are kept: reading one can evict those of another."""
    session = visit.session
    if session is None:
        return
    for item in visit.shelf:
        if item.report is not None and item.doc_id is not None and item.state in ("done", "stopped"):
            item.report = visit.engine.run(session.report, item.doc_id)


def set_bank(visit: Visit, capacity: int, policy: str) -> list[int]:
    """Give the memory another capacity and policy, now; returns the chunks that had to leave.

    Raises:
        MemLongError: for values that are not allowed, or pinned chunks that would not fit; nothing changed then.
    """
    session = visit.memory()
    least = session.config.chunk_tokens
    if capacity < least:
        given = f"A capacity of {plural(capacity, 'token')}" if capacity else "A capacity of nothing"
        raise ConfigError(given, f"At least one chunk, which is {plural(least, 'token')}", "Enter a larger capacity")

    def change() -> list[int]:
        before = session.config.policy
        if policy != before:
            session.set_policy(policy)
        try:
            return session.set_capacity(capacity) if capacity != session.config.capacity_tokens else []
        except MemLongError:
            if policy != before:
                session.set_policy(before)
            raise

    gone = visit.engine.run(change)
    for item in visit.shelf:
        if item.state == "waiting":
            estimate(visit, item)
    refresh_reports(visit)
    return gone
