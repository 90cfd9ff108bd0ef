"""What a visitor can take home: a document with the trace of its memory, or the conversation as Markdown."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path

from app.sessions import Exchange, Visit
from app.text import chunk_number, duration_words, one_line
from memlong.errors import DocumentError

# Characters that mean something in Markdown at any place, or at the start of a line.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$!])")


def document_archive(visit: Visit, item_id: int) -> Path:
    """Write a zip with a document's text, what is known about it, and the session's trace; return its path.

    Raises:
        DocumentError: for a document that was not opened.
    """
    item = visit.library.get(item_id)
    if item.document is None:
        raise DocumentError(f"{item.name} was not opened", "A document with text", "Add it again")
    visit.settle_layers()
    about = {
        "title": item.title, "name": item.name, "state": item.state, "kind": item.document.kind,
        "places": [asdict(span) for span in item.document.spans],
        "report": asdict(item.report) if item.report else None,
    }  # fmt: skip
    path = _folder() / f"{_file_name(item.title)}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text.txt", item.document.text)
        archive.writestr("about.json", json.dumps(about, indent=2, ensure_ascii=False))
        archive.writestr("trace.jsonl", visit.session.recorder.to_jsonl() if visit.session else b"")
    return path


def conversation_file(visit: Visit) -> Path:
    """Write the conversation as a Markdown file and return its path."""
    path = _folder() / "conversation.md"
    path.write_text(conversation(visit), "utf-8")
    return path


def conversation(visit: Visit) -> str:
    """Return questions, answers, evidence and thumbs as Markdown; what people and documents wrote is escaped."""
    documents = [item.title for item in visit.library if item.doc_id is not None]
    read = ", ".join(map(_plain, documents)) or "nothing"
    lines = ["# Conversation", "", f"Read: {read}.", ""]
    for number, exchange in enumerate(visit.exchanges, 1):
        lines += [f"## {number}. {_plain(one_line(exchange.question, 500))}", "", *_answer(exchange), ""]
    return "\n".join(lines).rstrip() + "\n"


def _answer(exchange: Exchange) -> list[str]:
    if exchange.error is not None:
        return [f"*{_plain(str(exchange.error))}*"]
    lines = [_plain(exchange.text) or "(no answer)", ""]
    answer = exchange.answer
    if answer is not None:
        mass = "" if answer.memory_mass is None else f", {answer.memory_mass:.1%} of attention on memory"
        lines.append(
            f"Answered from {answer.answer_from} in {duration_words(sum(answer.seconds.values()))}, "
            f"{answer.n_tokens} tokens{mass}."
        )
        if answer.low_evidence:
            lines.append("The text may not contain the answer.")
        if answer.reading:
            lines.append(f"Asked before reading was done: {_plain(answer.reading)}.")
    if exchange.liked is not None:
        lines.append(f"Rated: {'up' if exchange.liked else 'down'}.")
    for item in exchange.evidence:
        place = f", {_plain(item.place)}" if item.place else ""
        mass = "" if item.attention_mass is None else f", attention {item.attention_mass:.1%}"
        lines += [
            "",
            f"{item.rank}. {_plain(item.title)}{place}: score {item.score:.3f}{mass}, "
            f"triggers {item.trigger_count_before} to {item.trigger_count}, chunk {chunk_number(item.chunk_id)}",
            "",
            f"   > {_plain(one_line(item.text, 600))}",
        ]
    return lines


def _plain(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _file_name(title: str) -> str:
    return re.sub(r"[^\w-]+", "-", title).strip("-")[:60] or "document"


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="memlong-"))
