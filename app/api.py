"""What programs get from the app: plain values in, plain values out. No gradio; ``app.build`` offers them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from app import asking, lab, reading, replaying
from app.context import App
from app.sessions import Visit
from app.settings import Settings
from app.text import shorten
from memlong.config import AskOptions
from memlong.errors import ConfigError, DocumentError

SESSION_HEADER = "x-memlong-session"
_UPLOADED = "/gradio_api/file="  # where gradio serves what was sent to it
_NAME = re.compile(r"[\w.-]{1,64}")


def session_key(session_hash: str | None, headers: Mapping[str, str], settings: Settings) -> str:
    """Return the key of a program's session: the name that it sends in a header, else its connection.

    All MCP clients come through one connection of the app's own. Where other machines reach the app, two strangers
    would share a memory there, so a name is needed.

    Raises:
        ConfigError: for what is no name, or an MCP client without one on an app that others reach.
    """
    name = headers.get(SESSION_HEADER, "")
    if name:
        if not _NAME.fullmatch(name):
            allowed = "Letters, digits, dots and dashes, 64 at most"
            raise ConfigError(f"{SESSION_HEADER}: {shorten(name, 80)}", allowed, "Send another one")
        return f"named {name}"
    if headers.get("x-gradio-user") == "mcp" and not settings.is_local:
        given = "An MCP client that does not name its session"
        raise ConfigError(given, f"A header {SESSION_HEADER}", "Set it to something nobody guesses")
    return session_hash or "api"


def own_upload(given: str, folder: Path) -> str:
    """Return the path that an address of this app's own uploads stands for; paths are returned as they are.

    Raises:
        DocumentError: for an address of anything else: the app fetches nothing.
    """
    if not given.startswith(("http://", "https://")):
        return given
    path = _within(folder, unquote(given.partition(_UPLOADED)[2].partition("?")[0]))
    if path is None:
        do = f"POST it to /gradio_api/upload, then send the address that ends in {_UPLOADED}PATH"
        raise DocumentError(f"The address {shorten(given, 100)}", "Files sent to this app", do)
    return str(path)


def _within(folder: Path, given: str) -> Path | None:
    """Return the path, without links and dots, if it lies in ``folder``; None elsewhere, and for what is no path."""
    try:
        path = Path(given).resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a zero among the letters
        return None
    return path if given and path.is_relative_to(folder) else None


def upload(app: App, visit: Visit, file: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Read an uploaded file into the visitor's memory.

    Args:
        file: as gradio hands it over: ``path`` and ``orig_name``. folder: where uploads lie; no other path is read.

    Raises:
        MemLongError: for everything that can be wrong with the file, or while the model is loading.
    """
    path = _within(folder, str(file.get("path", "") if isinstance(file, Mapping) else ""))
    if path is None:
        raise DocumentError("A path that is no upload", "Files sent with the request", "Use gradio_client.handle_file")
    visit.engine.wait()
    visit.engine.require_ready()
    name = str(file.get("orig_name") or path.name)
    *_, item = reading.add_files(visit, [(path, name)], reading.limits_of(app.settings))
    if item.error is not None:
        raise item.error
    for _ in reading.read_all(visit, only=item):
        pass
    if item.error is not None:
        raise item.error
    if item.report is None:  # another request of the same session is reading it
        return {"title": item.title, "status": item.state}
    return asdict(item.report)


def ask(
    visit: Visit, question: str, answer_from: str = "memory", top_k: int = 0, max_tokens: int = 64
) -> dict[str, Any]:
    """Answer a question and return the answer with its evidence as plain values.

    Raises:
        MemLongError: when nothing was read yet, or for options that are not allowed.
    """
    options = AskOptions(answer_from=answer_from, top_k=_top_k(top_k), max_tokens=max_tokens)
    *_, exchange = asking.ask(visit, question, options)
    if exchange.error is not None:
        raise exchange.error
    if exchange.answer is None:
        raise ConfigError("The question was stopped before an answer began", "One question at a time", "Ask again")
    return exchange.answer.to_dict()


def _top_k(given: Any) -> int | None:
    """Return the number of chunks as AskOptions takes it: 0, which a program may send, is the model's own number.

    Raises:
        ConfigError: for anything but a whole number from 0; AskOptions would say "from 1".
    """
    if type(given) is not int or given < 0:
        do = "Send 0 for the model's own number"
        raise ConfigError(f"top_k={shorten(repr(given), 60)}", "A whole number from 0", do)
    return given or None


def memory_state(visit: Visit) -> dict[str, Any]:
    """Return capacity, policy, documents and every chunk held, with its trigger count."""
    session = visit.session
    if session is None:
        return {"capacity_tokens": visit.engine.settings.capacity, "tokens": 0, "documents": [], "chunks": []}
    records = visit.engine.run(session.bank.records)
    documents = [
        {
            "doc_id": document.doc_id, "title": document.title, "status": document.status,
            "n_tokens": document.n_tokens, "chunks_read": document.chunks_read, "chunks_total": document.chunks_total,
        }
        for document in list(session.documents.values())
    ]  # fmt: skip
    return {
        "capacity_tokens": session.config.capacity_tokens, "policy": session.config.policy,
        "tokens": session.bank.tokens, "documents": documents, "chunks": [asdict(record) for record in records],
    }  # fmt: skip


def trace(visit: Visit, since: int = 0) -> list[dict[str, Any]]:
    """Return the events of the session from a step on. Raises ConfigError for what is no step."""
    if type(since) is not int or since < 0:
        raise ConfigError(f"since={shorten(repr(since), 60)}", "A whole number from 0", "Send the step to begin with")
    visit.settle_layers()
    return [event.to_dict() for event in visit.session.recorder.since(since)] if visit.session else []


def compare(visit: Visit, question: str, top_k: int = 0, max_tokens: int = 64) -> dict[str, dict[str, Any]]:
    """Answer a question from memory, from passages, from both and from nothing, with one retriever and one seed.

    Raises:
        MemLongError: when nothing was read, or for values that are not allowed.
    """
    *_, found = lab.four_ways(visit, question, AskOptions(top_k=_top_k(top_k), max_tokens=max_tokens))
    return {way: answer.to_dict() for way, answer in found.answers.items() if not isinstance(answer, str)}


def policies(visit: Visit, shares: Sequence[float] = replaying.SHARES) -> dict[str, Any]:
    """Replay the session under every eviction policy, at capacities that are ``shares`` of what was read.

    Raises:
        MemLongError: when nothing was read, or for shares that are not allowed.
    """
    *_, result = replaying.policies(visit, shares)
    if result.share < 1:
        raise ConfigError("The replay was stopped before its end", "One experiment at a time", "Start it again")
    return {
        "conclusion": result.words, "tokens": result.tokens, "policy": result.used,
        # JSON has no other keys than text.
        "replays": [asdict(row) | {"missed": {str(key): n for key, n in row.missed.items()}} for row in result.rows],
    }  # fmt: skip
