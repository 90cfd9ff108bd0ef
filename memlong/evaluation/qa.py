"""Question answering over whole documents: exact match, word F1, evidence recall and abstaining, in four ways.

Every document is read into a bank of its own; retrieval is real: nothing is told where the answer stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from memlong.config import ANSWER_FROM, AskOptions
from memlong.evaluation.answers import score_answer
from memlong.model.wrapper import MemoryModel
from memlong.session import Session

Document = tuple[str, str, Sequence["AskedQuestion"]]
Progress = Callable[[str], bool]
"""Told what is being done, in words; returns whether to stop."""


@dataclass(frozen=True)
class AskedQuestion:
    """A question of a document: acceptable answers (none: unanswerable), its type, and evidence spans (characters)."""

    question: str
    answers: tuple[str, ...]
    type: str = "all"
    evidence: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Scored:
    """One answer and what it is worth.

    Attributes:
        document, document_tokens, capacity_tokens: where it was asked.
        depth: place of the evidence in the document, 0 its beginning and 1 its end; None where it is not known.
        exact, f1: 0 to 1; of an unanswerable question both are 1 when the answer says so.
        abstained: whether the answer says that the text does not tell.
        evidence_found, evidence_all, evidence_kept: whether a chunk with evidence was retrieved, whether every piece
            of evidence was, and whether a chunk with evidence was still held; None where the evidence is not known.
        low_evidence: the session's own doubt. best_score: of retrieval. seconds: to answer. tokens: of the answer.
        steps: answers to what had to be found first.
    """

    document: str
    document_tokens: int
    capacity_tokens: int
    depth: float | None
    type: str
    way: str
    question: str
    answers: tuple[str, ...]
    answer: str
    exact: float
    f1: float
    abstained: bool
    evidence_found: bool | None
    evidence_all: bool | None
    evidence_kept: bool | None
    low_evidence: bool
    best_score: float | None
    seconds: float
    tokens: int
    steps: int = 0


Group = tuple[float, str]
"""Where a row of the table stands among others, and its name."""


def by_length(row: Scored) -> Group:
    """Return the document's length as a range between powers of two, in tokens."""
    below = 1 << max(10, row.document_tokens.bit_length() - 1)
    if row.document_tokens < below:
        return 0.0, f"under {below:,} tokens"
    return below, f"{below:,} to {2 * below:,} tokens"


def by_depth(row: Scored) -> Group:
    """Return the fifth of the document that the evidence stands in."""
    if row.depth is None:
        return 5.0, "place not known"
    fifth = min(4, int(row.depth * 5))
    return fifth, f"{20 * fifth} to {20 * fifth + 20} %"


def by_capacity(row: Scored) -> Group:
    """Return the bank's size."""
    return row.capacity_tokens, f"{row.capacity_tokens:,} tokens"


GROUPS: dict[str, Callable[[Scored], Group]] = {"length": by_length, "depth": by_depth, "capacity": by_capacity}


@dataclass
class QAResult:
    """Every single answer.

    Attributes:
        rows: one an answer. seconds_reading, tokens_read: of all documents.
    """

    rows: list[Scored] = field(default_factory=list)
    seconds_reading: float = 0.0
    tokens_read: int = 0

    def table(self, by: str | None = None, types: bool = True) -> dict[str, dict[str, dict[str, float]]]:
        """Return group -> way -> {exact, f1, ...}.

        Args:
            by: a key of ``GROUPS``; None makes one group of all. types: whether groups are split by type of question.
        """
        group = GROUPS[by] if by else lambda row: (0.0, "")
        found: dict[tuple[str, float, str], dict[str, list[Scored]]] = {}
        for row in self.rows:
            kind = row.type if types else "all"
            found.setdefault((kind, *group(row)), {}).setdefault(row.way, []).append(row)
        # Types as they were first met, groups of each in order.
        kinds = list(dict.fromkeys(kind for kind, _, _ in found))
        ordered = sorted(found, key=lambda at: (kinds.index(at[0]), at[1]))
        return {
            _title(kind, name): {way: means(rows) for way, rows in found[kind, at, name].items()}
            for kind, at, name in ordered
        }


def _title(kind: str, name: str) -> str:
    return kind if not name else name if kind == "all" else f"{kind}, {name}"


def means(rows: Sequence[Scored]) -> dict[str, float]:
    """Return one row of the table.

    ``exact`` and ``f1`` are means over answerable questions where there are any, and over the others where there are
    none; ``said_so`` is the share of unanswerable questions whose answer says that the text does not tell,
    ``wrongly_said_so`` that of answerable ones. Recall is over questions whose evidence is known.
    """
    answerable = [row for row in rows if row.answers]
    unanswerable = [row for row in rows if not row.answers]
    judged = answerable or unanswerable
    found: dict[str, float] = {
        "exact": fmean(row.exact for row in judged),
        "f1": fmean(row.f1 for row in judged),
        "questions": len(rows),
        "abstained": fmean(row.abstained for row in rows),
    }
    if unanswerable:
        found |= {"unanswerable": len(unanswerable), "said_so": fmean(row.abstained for row in unanswerable)}
    if answerable:
        found["wrongly_said_so"] = fmean(row.abstained for row in answerable)
    for name, field_name in (
        ("evidence_recall", "evidence_found"),
        ("evidence_recall_all", "evidence_all"),
        ("evidence_kept", "evidence_kept"),
    ):
        known = [value for row in rows if (value := getattr(row, field_name)) is not None]
        if known:
            found[name] = fmean(known)
    return found | {"seconds": fmean(row.seconds for row in rows), "tokens": fmean(row.tokens for row in rows)}


def evaluate_qa(
    model: MemoryModel,
    retriever: Any,
    documents: Iterable[Document],
    ways: Sequence[str] = ANSWER_FROM,
    options: AskOptions | None = None,
    progress: Progress = lambda words: False,
) -> QAResult:
    """Read each document, ask its questions in every way, and score the answers.

    Args:
        documents: (title, text, questions). ways: of answering, see ``AskOptions.answer_from``.
        options: for every question; ``answer_from`` is replaced.
        progress: told in words what is done; when it returns True, what was scored until then is returned.
    """
    result = QAResult()
    base = options or AskOptions(max_tokens=32, record_attention=False)
    for title, text, questions in documents:
        session = Session(model, retriever)
        doc_id = session.open(text, title)
        for step in session.read_steps(doc_id):
            share = step.tokens_done / step.tokens_total
            if progress(f"{title}: {share:.0%} read, {step.tokens_per_second:,.0f} tokens/s"):
                return result
        report = session.report(doc_id)
        result.seconds_reading += report.seconds
        result.tokens_read += report.n_tokens
        for number, asked in enumerate(questions, start=1):
            for way in ways:
                result.rows.append(_ask(session, title, asked, replace(base, answer_from=way)))
            if progress(f"{title}: {number} of {len(questions)} questions"):
                return result
    return result


def _ask(session: Session, title: str, asked: AskedQuestion, options: AskOptions) -> Scored:
    started = time.perf_counter()
    answer = session.ask(asked.question, options)
    seconds = time.perf_counter() - started
    score = score_answer(answer.text, asked.answers, answerable=bool(asked.answers))
    document = session.documents[0]
    found = everything = kept = None
    if asked.evidence and options.answer_from != "nothing":
        retrieved = [item.span for item in answer.evidence]
        found = overlap(retrieved, asked.evidence)
        everything = all(overlap(retrieved, [span]) for span in asked.evidence)
        kept = overlap([record.span for record in session.bank.records()], asked.evidence)
    middle = sum(asked.evidence[0]) / 2 / len(document.text) if asked.evidence else None
    return Scored(
        document=title,
        document_tokens=document.n_tokens,
        capacity_tokens=session.config.capacity_tokens,
        depth=middle,
        type=asked.type,
        way=options.answer_from,
        question=asked.question,
        answers=asked.answers,
        answer=answer.text,
        exact=score.exact,
        f1=score.f1,
        abstained=score.abstained,
        evidence_found=found,
        evidence_all=everything,
        evidence_kept=kept,
        low_evidence=answer.low_evidence,
        best_score=max((item.score for item in answer.evidence), default=None),
        seconds=seconds,
        tokens=answer.n_tokens,
        steps=len(answer.steps),
    )


def overlap(spans: Iterable[tuple[int, int]], others: Sequence[tuple[int, int]]) -> bool:
    """Return whether any of the spans shares a character with any of the others."""
    return any(span[0] < end and span[1] > start for span in spans for start, end in others)
