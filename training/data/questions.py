"""Questions and the documents they are asked of, read from JSON lines.

Two forms: questions that carry their passage (``context``), and questions on whole documents, named by
``doc_id`` and read from other files, with ``evidence`` as character spans of the document's text. See
``docs/training.md`` for the fields.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from memlong.errors import DocumentError
from memlong.evaluation.answers import NOT_IN_TEXT
from training.data.jsonl import read_jsonl

FREE_FORM = "free_form"
CONTINUATION = "continuation"


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its acceptable answers.

    ``answers``: the preferred one first, empty when ``answerable`` is false. ``context``: the passage, or
    None when the question is about a whole document. ``evidence``: spans ``(start, end)``, characters of the
    document's text.
    ``type``: such as "extractive", "changed_fact", or "free_form", whose answer need not stand in the text word for
    word, or "continuation", a passage and how it goes on (``training/data/continuations.py``).
    ``history``: earlier (question, answer) pairs of its conversation, oldest first.
    """

    id: str
    doc_id: str
    question: str
    answers: tuple[str, ...]
    context: str | None = None
    answerable: bool = True
    type: str = "extractive"
    evidence: tuple[tuple[int, int], ...] = ()
    history: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the question as a JSON object; ``context`` and ``history`` are left out when there is none."""
        row = asdict(self)
        row["history"] = [list(pair) for pair in self.history]
        if not self.history:
            del row["history"]
        row["answers"] = list(self.answers)
        row["evidence"] = [list(span) for span in self.evidence]
        if self.context is None:
            del row["context"]
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Question:
        """Return the question of a JSON object; unknown fields (source, license ...) are not kept.

        Choices of a multiple-choice question become part of the question, which makes no sense without them.

        Raises:
            DocumentError: a needed field is missing or has a wrong type.
        """
        try:
            text = str(row["question"])
            if row.get("choices"):
                text += " Choose one: " + "; ".join(str(choice) for choice in row["choices"]) + "."
            answerable = bool(row.get("answerable", True))
            context = row.get("context")
            return cls(
                id=str(row["id"]),
                doc_id=str(row["doc_id"]),
                question=text,
                answers=_strings(row["answers"]) if answerable else (),
                context=None if context is None else str(context),
                answerable=answerable,
                type=str(row.get("type", "extractive")),
                evidence=tuple((int(start), int(end)) for start, end in row.get("evidence") or ()),
                history=tuple((str(asked), str(answer)) for asked, answer in row.get("history") or ()),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(
                f"A question cannot be read: {type(error).__name__} {error} in {str(dict(row))[:200]}",
                "Allowed: id, doc_id, question, answers (a list), and, where known, context, answerable, "
                "type, evidence (a list of [start, end])",
                "Mend that line of the file",
            ) from error


Document = tuple[str, str, list[Question]]
"""What a source yields: a document's id, its text, and what is asked of it."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """A whole document: ``text`` is what evidence spans count in."""

    doc_id: str
    title: str
    text: str


def read_questions(path: str | Path, limit: int | None = None) -> Iterator[Question]:
    """Yield the questions of a JSON lines file, of its first ``limit`` rows if given.

    A row with ``turns`` or ``messages`` is a conversation: every turn becomes a question that knows those before it.

    Raises:
        DocumentError: see :func:`read_jsonl` and :meth:`Question.from_dict`.
    """
    for row in islice(read_jsonl(path), limit):
        if "turns" in row or "messages" in row:
            yield from conversation(row)
        else:
            yield Question.from_dict(row)


def conversation(row: Mapping[str, Any]) -> Iterator[Question]:
    """Yield one question per turn of a conversation, with the turns before it as ``history``.

    So every answer is learned once, from its own question's memory, and what people said is never scored.

    Raises:
        DocumentError: for a turn that is no question with an answer.
    """
    history: list[tuple[str, str]] = []
    shared = {"type": FREE_FORM} | {key: row[key] for key in ("doc_id", "context", "evidence", "type") if key in row}
    for number, turn in enumerate(row["turns"] if "turns" in row else _pairs(row)):
        question = Question.from_dict(shared | dict(turn) | {"id": f"{row.get('id', row.get('doc_id'))}/{number}"})
        yield replace(question, history=tuple(history))
        history.append((question.question, question.answers[0] if question.answers else NOT_IN_TEXT))


def _pairs(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return chat messages as turns; what a system message says is the prompt's to say."""
    said = [message for message in row["messages"] if message.get("role") != "system"]
    roles = [message.get("role") for message in said]
    if not said or roles != ["user", "assistant"] * (len(said) // 2):
        raise DocumentError(
            f"The messages of {row.get('id', row.get('doc_id'))!r} come from {', '.join(map(str, roles)) or 'nobody'}",
            "user and assistant in turn, and system anywhere",
            "Mend that line of the file",
        )
    return [{"question": q["content"], "answers": [a["content"]]} for q, a in zip(said[::2], said[1::2])]


def load_questions(path: str | Path, limit: int | None = None) -> list[Question]:
    """Return :func:`read_questions` as a list."""
    return list(read_questions(path, limit))


def read_documents(
    paths: str | Path | Iterable[str | Path], doc_ids: Collection[str] | None = None
) -> Iterator[SourceText]:
    """Yield the documents of one or several JSON lines files, only those in ``doc_ids`` if given.

    A row without ``title`` is called by its id. Books are large: name the ids to keep no more than needed.

    Raises:
        DocumentError: a file cannot be read or a row has no ``doc_id`` or ``text``.
    """
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for number, row in enumerate(read_jsonl(path), start=1):
            if not isinstance(row.get("doc_id"), str) or not isinstance(row.get("text"), str):
                raise DocumentError(
                    f"Row {number} of {path} is not a document",
                    "Rows with doc_id and text are allowed",
                    "Give a file of documents; questions go into another file",
                )
            if doc_ids is None or row["doc_id"] in doc_ids:
                yield SourceText(row["doc_id"], str(row.get("title") or row["doc_id"]), row["text"])


def load_with_documents(
    questions: str | Path, documents: str | Path | Iterable[str | Path], limit: int | None = None
) -> tuple[list[Question], dict[str, SourceText]]:
    """Return the questions of a file and the documents they are asked of, by ``doc_id``.

    Raises:
        DocumentError: a document is not in the files, or evidence lies outside its document.
    """
    asked = load_questions(questions, limit)
    wanted = {question.doc_id for question in asked}
    texts = {document.doc_id: document for document in read_documents(documents, wanted)}
    if missing := sorted(wanted - texts.keys()):
        raise DocumentError(
            f"{len(missing)} of {len(wanted)} documents asked about are not in the document files, "
            f"first {missing[0]!r}",
            "Every doc_id of the questions must be there",
            "Name all files that hold the documents",
        )
    for question in asked:
        length = len(texts[question.doc_id].text)
        for start, end in question.evidence:
            if not 0 <= start < end <= length:
                raise DocumentError(
                    f"Evidence {start} to {end} of question {question.id!r} lies outside its document",
                    f"Spans within 0 to {length} characters are allowed",
                    "Use the document file that the questions were made from",
                )
    return asked, texts


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"answers is a {type(value).__name__}")
    return tuple(str(item) for item in value)
