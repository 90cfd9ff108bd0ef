"""Question answering over whole documents: exact match, word F1 and evidence recall, answered in four ways.

Every document is read into a bank of its own; retrieval is real: nothing is told where the answer stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memlong.config import ANSWER_FROM, AskOptions
from memlong.evaluation.answers import abstains, exact_match, word_f1
from memlong.model.wrapper import MemoryModel
from memlong.session import Session


@dataclass(frozen=True)
class AskedQuestion:
    """A question of a document: acceptable answers (none: unanswerable), its type, and evidence spans (characters)."""

    question: str
    answers: tuple[str, ...]
    type: str = "all"
    evidence: tuple[tuple[int, int], ...] = ()


@dataclass
class Tally:
    """Sums over questions; :meth:`means` divides. ``abstained``: answers that say that the text does not tell."""

    count: int = 0
    exact: float = 0.0
    f1: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    evidence_known: int = 0
    evidence_found: int = 0
    evidence_kept: int = 0
    abstained: int = 0

    def means(self) -> dict[str, float]:
        """Return the table row: means over questions; recall over those whose evidence is known."""
        row = {
            "questions": self.count,
            "exact": self.exact / self.count,
            "f1": self.f1 / self.count,
            "seconds": self.seconds / self.count,
            "tokens": self.tokens / self.count,
            "abstained": self.abstained / self.count,
        }
        if self.evidence_known:
            row["evidence_recall"] = self.evidence_found / self.evidence_known
            row["evidence_kept"] = self.evidence_kept / self.evidence_known
        return row


@dataclass
class QAResult:
    """Tallies by question type and way of answering, and every single answer.

    Attributes:
        tallies: type -> way -> sums. rows: one JSON-safe row an answer. seconds_reading, tokens_read: of all documents.
    """

    tallies: dict[str, dict[str, Tally]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds_reading: float = 0.0
    tokens_read: int = 0

    def table(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return type -> way -> {exact, f1, ...}."""
        return {kind: {way: tally.means() for way, tally in ways.items()} for kind, ways in self.tallies.items()}


def evaluate_qa(
    model: MemoryModel,
    retriever: Any,
    documents: Iterable[tuple[str, str, Sequence[AskedQuestion]]],
    ways: Sequence[str] = ANSWER_FROM,
    options: AskOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> QAResult:
    """Read each document, ask its questions in every way, and score the answers.

    Args:
        documents: (title, text, questions). ways: of answering, see ``AskOptions.answer_from``.
        options: for every question; ``answer_from`` is replaced. progress: told in words.
    """
    result = QAResult()
    base = options or AskOptions(max_tokens=32, record_attention=False)
    for title, text, questions in documents:
        session = Session(model, retriever)
        report = session.read(text, title)
        result.seconds_reading += report.seconds
        result.tokens_read += report.n_tokens
        for number, asked in enumerate(questions, start=1):
            for way in ways:
                _ask(session, title, asked, AskOptions(**(vars(base) | {"answer_from": way})), result)
            if progress:
                progress(f"{title}: {number} of {len(questions)} questions")
    return result


def _ask(session: Session, title: str, asked: AskedQuestion, options: AskOptions, result: QAResult) -> None:
    started = time.perf_counter()
    answer = session.ask(asked.question, options)
    seconds = time.perf_counter() - started
    tally = result.tallies.setdefault(asked.type, {}).setdefault(options.answer_from, Tally())
    abstained = abstains(answer.text)
    if asked.answers:
        exact, f1 = exact_match(answer.text, asked.answers), word_f1(answer.text, asked.answers)
    else:  # the right answer is to say that the text does not tell
        exact = f1 = float(abstained)
    tally.count += 1
    tally.exact += exact
    tally.f1 += f1
    tally.seconds += seconds
    tally.abstained += abstained
    tally.tokens += answer.n_tokens
    if asked.evidence and options.answer_from != "nothing":
        tally.evidence_known += 1
        tally.evidence_found += any(_overlap(item.span, asked.evidence) for item in answer.retrieved)
        tally.evidence_kept += any(_overlap(record.span, asked.evidence) for record in session.bank.records())
    result.rows.append(
        {
            "document": title,
            "type": asked.type,
            "way": options.answer_from,
            "question": asked.question,
            "answers": list(asked.answers),
            "answer": answer.text,
            "exact": exact,
            "f1": f1,
            "low_evidence": answer.low_evidence,
            "best_score": max((item.score for item in answer.retrieved), default=None),
        }
    )


def _overlap(span: tuple[int, int], others: Iterable[tuple[int, int]]) -> bool:
    return any(span[0] < end and span[1] > start for start, end in others)
