"""What a visitor can take home: a document with the trace of its memory, the conversation, the table of chunks."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from app import looking
from app.looking import Look
from app.rows.chunks import HEADERS, chunk_rows, select, table
from app.sessions import Exchange, Visit
from app.text import chunk_number, duration_words, escape, escape_lines, one_line, plural
from memlong.errors import DocumentError

if TYPE_CHECKING:
    from memlong.session.results import Evidence

# Characters that mean something in Markdown at any place, or at the start of a line.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$!])")


def document_archive(visit: Visit, item_id: int) -> Path:
    """Write a zip with a document's text, what is known about it, and the session's trace; return its path.

    Raises:
        DocumentError: for a document that was not opened.
    """
    item = visit.shelf.get(item_id)
    if item.document is None:
        raise DocumentError(f"{item.name} was not opened", "A document with text", "Add it again")
    visit.settle_layers()
    about = {
        "title": item.title, "name": item.name, "state": item.state, "kind": item.document.kind,
        "places": [asdict(span) for span in item.document.spans],
        "report": asdict(item.report) if item.report else None,
    }  # fmt: skip
    path = visit.outbox() / f"{_file_name(item.title)}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text.txt", item.document.text)
        archive.writestr("about.json", json.dumps(about, indent=2, ensure_ascii=False))
        archive.writestr("trace.jsonl", visit.session.recorder.to_jsonl() if visit.session else b"")
    return path


CONVERSATIONS = {"md": "Markdown", "html": "HTML", "json": "JSON"}
"""Kinds of file that a conversation can be saved as, and their names."""


def conversation_file(visit: Visit, kind: str = "md") -> Path:
    """Write the conversation as a file of one of :data:`CONVERSATIONS` and return its path."""
    make = {"md": conversation, "html": conversation_page, "json": conversation_json}[kind]
    path = visit.outbox() / f"conversation.{kind}"
    path.write_text(make(visit), "utf-8")
    return path


def chunks_file(visit: Visit, look: Look) -> Path:
    """Write every chunk that the table's filter shows as CSV, as the table has it, and return its path."""
    path, documents = visit.outbox() / "chunks.csv", looking.documents(visit)
    found = select(chunk_rows(looking.timeline(visit), look.step), look.rows, documents)
    with path.open(
        "w", encoding="utf-8-sig", newline=""
    ) as file:  # spreadsheets take text without the mark for Latin-1
        rows = csv.writer(file)
        rows.writerow(HEADERS)
        rows.writerows([[_no_formula(cell) for cell in row] for row in table(found, documents)])
    return path


def _no_formula(cell: str | int | float) -> str | int | float:
    """Return a cell that a spreadsheet shows and does not work out: a document may begin a chunk with "="."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def conversation_json(visit: Visit) -> str:
    """Return questions, answers, evidence and thumbs as JSON; chunks have the ids that programs know them by."""
    exchanges = [
        {
            "question": each.question, "answer": each.text, "liked": each.liked,
            "options": asdict(each.options) if each.options else None,
            "error": str(each.error) if each.error else None,
            "result": each.answer.to_dict() if each.answer else None,
        }
        for each in visit.exchanges
    ]  # fmt: skip
    read = [item.title for item in visit.shelf if item.doc_id is not None]
    return json.dumps({"read": read, "exchanges": exchanges}, indent=2, ensure_ascii=False) + "\n"


def conversation_page(visit: Visit) -> str:
    """Return the conversation as a page that needs nothing else; what people and documents wrote is escaped."""
    titles = [f"<bdi>{escape(item.title)}</bdi>" for item in visit.shelf if item.doc_id is not None]
    parts = [f"<h1>Conversation</h1><p>Read: {', '.join(titles) or 'nothing'}.</p>"]
    for number, each in enumerate(visit.exchanges, 1):
        said = each.error if each.error is not None else each.text or "(no answer)"
        found = "".join(_list(*part) for part in _evidence(each))
        parts.append(
            f'<h2>{number}. <bdi>{escape(each.question)}</bdi></h2><p dir="auto">{escape_lines(said)}</p>'
            + (f"<p>{escape(_facts(each))}</p>" if each.answer else "")
            + (f"<p>{_rated(each)}</p>" if each.liked is not None else "")
            + (f"<details><summary>Evidence</summary>{found}</details>" if found else "")
        )
    return _PAGE.format("".join(parts))


def _evidence(exchange: Exchange) -> list[tuple[str, tuple[Evidence, ...]]]:
    """Return the chunks of an answer and of each of its steps, with what they were found for where there are steps."""
    answer = exchange.answer
    if answer is None or not answer.steps:
        return [("", exchange.evidence)] if exchange.evidence else []
    return [(part.asked, part.retrieved) for part in (answer, *answer.steps) if part.retrieved]


def _list(found_for: str, items: tuple[Evidence, ...]) -> str:
    rows = "".join(
        f"<li><b><bdi>{escape(item.title)}</bdi>{escape(f', {item.place}' if item.place else '')}</b>: "
        f'{escape(_measures(item))}<blockquote dir="auto">{escape_lines(item.text.strip())}</blockquote></li>'
        for item in items
    )
    return (f"<p>Found for <bdi>{escape(found_for)}</bdi></p>" if found_for else "") + f"<ol>{rows}</ol>"


_PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Conversation</title><meta name="viewport" '
    'content="width=device-width"><style>:root{{color-scheme:light dark}}body{{max-width:70ch;margin:2rem auto;'
    "padding:0 1rem;font:16px/1.6 system-ui;overflow-wrap:anywhere}}blockquote{{margin:.4rem 0 1rem;"
    "padding-inline-start:1rem;border-inline-start:3px solid #2b6cb0;opacity:.85}}</style></head>"
    "<body>{}</body></html>\n"
)


def conversation(visit: Visit) -> str:
    """Return questions, answers, evidence and thumbs as Markdown; what people and documents wrote is escaped."""
    documents = [item.title for item in visit.shelf if item.doc_id is not None]
    read = ", ".join(map(_plain, documents)) or "nothing"
    lines = ["# Conversation", "", f"Read: {read}.", ""]
    for number, exchange in enumerate(visit.exchanges, 1):
        lines += [f"## {number}. {_plain(one_line(exchange.question, 500))}", "", *_answer(exchange), ""]
    return "\n".join(lines).rstrip() + "\n"


def _answer(exchange: Exchange) -> list[str]:
    if exchange.error is not None:
        return [f"*{_plain(str(exchange.error))}*"]
    lines = [_plain(exchange.text) or "(no answer)", ""]
    if exchange.answer is not None:
        lines.append(_plain(_facts(exchange)))
    if exchange.liked is not None:
        lines.append(_rated(exchange))
    for found_for, items in _evidence(exchange):
        lines += ["", f"Found for {_plain(one_line(found_for, 500))}"] if found_for else []
        for item in items:
            place = f", {_plain(item.place)}" if item.place else ""
            lines += [
                "",
                f"{item.rank}. {_plain(item.title)}{place}: {_plain(_measures(item))}",
                "",
                f"   > {_plain(one_line(item.text, 600))}",
            ]
    return lines


def _rated(exchange: Exchange) -> str:
    return f"Rated: {'up' if exchange.liked else 'down'}."


def _facts(exchange: Exchange) -> str:
    """Return how an answer came about, and what a reader should know before trusting it."""
    answer = exchange.answer
    assert answer is not None
    mass = "" if answer.memory_mass is None else f", {answer.memory_mass:.1%} of attention on memory"
    seconds = duration_words(sum(answer.seconds.values()))
    lines = [
        f"Asked first: {step.question} {one_line(step.text, 200).rstrip('.') or 'Nothing'}." for step in answer.steps
    ]
    lines += [f"Asked as: {one_line(exchange.reworded, 200)}"] if exchange.reworded and not answer.steps else []
    lines += [f"Answered from {answer.answer_from} in {seconds}, {plural(answer.n_tokens, 'token')}{mass}."]
    if answer.low_evidence:
        lines.append("The text may not contain the answer.")
    if answer.reading:
        lines.append(f"Asked before reading was done: {answer.reading}.")
    return " ".join(lines)


def _measures(item: Evidence) -> str:
    mass = "" if item.attention_mass is None else f", attention {item.attention_mass:.1%}"
    best = item.points_at
    places = f', pointed at "{one_line(best.text, 80)}" {best.likely:.0%}' if best else ""
    return (
        f"score {item.score:.3f}{mass}, triggers {item.trigger_count_before} to {item.trigger_count}, "
        f"chunk {chunk_number(item.chunk_id)}{places}"
    )


def _plain(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _file_name(title: str) -> str:
    return re.sub(r"[^\w-]+", "-", title).strip("-")[:60] or "document"
