"""``evaluate qa``: answers scored in four ways."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from memlong.config import ANSWER_FROM, AskOptions
from memlong.errors import ConfigError
from training.data.chronicle import TYPES, make_chronicle
from training.data.questions import Question, SourceText, load_with_documents
from training.evaluate import common

BY = ("length", "depth", "capacity")
ALL = "all"

Asked = tuple[str, str, list[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    common.add_model_arguments(parser)
    add_question_arguments(parser)
    parser.add_argument("--by", choices=BY, help="split the rows by length of document, depth of evidence, or capacity")
    parser.add_argument(
        "--capacity-tokens", type=common.numbers, help="size of the bank, one or several (default: the model's)"
    )
    parser.add_argument("--policy", help="eviction policy (default: the model's)")
    parser.add_argument("--ways", default=",".join(ANSWER_FROM), help="comma-separated")
    parser.add_argument("--answer-tokens", type=int, default=32, help="of an answer at most")
    parser.add_argument("--rows", type=Path, help="write every answer into this JSONL file")


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which documents are read and what is asked of them."""
    parser.add_argument(
        "--source",
        required=True,
        action="append",
        help='"chronicle", or a JSONL file of questions; several by repeating',
    )
    parser.add_argument("--documents", nargs="*", default=[], help="JSONL files that hold the documents")
    parser.add_argument("--tokens", type=int, default=80_000, help="length of a chronicle")
    parser.add_argument("--seed", type=int, default=7, help="of the chronicle")
    parser.add_argument(
        "--questions",
        type=int,
        default=40,
        help="questions a document in all, spread evenly over it (0: all). Where types are told apart, as in a "
        f"chronicle, each type gets the same share of them, rounded up: 40 make {-(-40 // len(TYPES))} of each of a "
        f"chronicle's {len(TYPES)} types",
    )
    parser.add_argument("--limit", type=int, default=0, help="documents, shortest first (0: all)")
    parser.add_argument(
        "--type",
        nargs="?",
        const=ALL,
        metavar="NAMES",
        help='a row for every type of question in place of one for "all"; with NAMES (comma-separated) only these. '
        "A chronicle has a row for every type anyway, unless its rows are split by something else",
    )
    parser.add_argument("--by-type", dest="type", action="store_const", const=ALL, help="the same as --type")


def run(chosen: argparse.Namespace) -> int:
    """Evaluate and print.

    Raises:
        MemLongError: for unknown names or unreadable files.
    """
    ways = common.one_of(chosen.ways, ANSWER_FROM, "--ways")
    asked = list(documents(chosen))
    from memlong.evaluation.qa import QAResult, evaluate_qa

    model, retriever = common.load(chosen)
    base = model.config.replace(**({"policy": chosen.policy} if chosen.policy else {}))
    configs = [base.replace(capacity_tokens=size) for size in chosen.capacity_tokens or [base.capacity_tokens]]
    options = AskOptions(max_tokens=chosen.answer_tokens, record_attention=False)
    result = QAResult()
    with common.Watch() as watch:
        for config in configs:
            found = evaluate_qa(model.with_config(config), retriever, asked, ways, options, watch)
            result.rows += found.rows
            if watch.stopped:
                break
    common.write_rows(chosen, result.rows)
    by = chosen.by or ("capacity" if len(configs) > 1 else None)
    table = result.table(by, types=bool(chosen.type) or not chosen.by)
    reader = (model.with_config(base), retriever)
    return common.publish(chosen, reader, table, lines_of(table), watch.stopped)


def lines_of(table: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return the table as lines of text; a blank where a number does not apply."""
    columns = {
        "questions": ("questions", ".0f"),
        "exact": ("exact", ".2f"),
        "f1": ("F1", ".2f"),
        "said_so": ("said so", ".2f"),
        "wrongly_said_so": ("wrongly", ".2f"),
        "evidence_recall": ("recall", ".2f"),
        "evidence_kept": ("kept", ".2f"),
        "seconds": ("seconds", ".2f"),
    }
    width = max([16, *(len(kind) + 2 for kind in table)])
    lines = [f"{'type':{width}}{'way':10}" + "".join(f"{title:>10}" for title, _ in columns.values())]
    for kind, ways in table.items():
        for way, row in ways.items():
            cells = (f"{row[key]:{form}}" if key in row else "" for key, (_, form) in columns.items())
            lines.append(f"{kind:{width}}{way:10}" + "".join(f"{cell:>10}" for cell in cells))
    return lines


def documents(chosen: argparse.Namespace) -> Iterator[Asked]:
    """Yield (title, text, questions) of the chosen source.

    Raises:
        ConfigError: for a type that is not there, or questions without documents.
    """
    if chosen.source == ["chronicle"]:
        chronicle = make_chronicle(chosen.seed, chosen.tokens)
        _refuse_types(chosen.type, chronicle.questions)
        yield chronicle.title, chronicle.text, _asked(chronicle.questions, chosen.questions, chosen.type or ALL)
        return
    if not chosen.documents:
        given = f"--source {' '.join(chosen.source)} without --documents"
        raise ConfigError(given, 'Questions and their documents, or "chronicle" alone', "Name the files")
    questions, texts = _loaded(chosen.source, chosen.documents)
    _refuse_types(chosen.type, questions)
    ordered = sorted(texts.values(), key=lambda text: len(text.text))
    for text in ordered[: chosen.limit or None]:
        mine = [question for question in questions if question.doc_id == text.doc_id]
        asked = _asked(mine, chosen.questions, chosen.type)
        if asked:
            yield text.title, text.text, asked


def _loaded(sources: Sequence[str], files: Sequence[str]) -> tuple[list[Question], dict[str, SourceText]]:
    """Return the questions of all files, each once (the first of equal ones, which may know its evidence)."""
    found: dict[tuple[str, str], Question] = {}
    texts: dict[str, SourceText] = {}
    for source in sources:
        questions, more = load_with_documents(source, files)
        texts |= more
        for question in questions:
            # Evidence of a question that brings its passage counts in the passage, not in the document.
            if question.context is not None and question.evidence:
                question = Question.from_dict(question.to_dict() | {"evidence": []})
            found.setdefault((question.doc_id, question.question), question)
    return list(found.values()), texts


def _type_of(question: Question) -> str:
    return question.type if question.answerable else "unanswerable"


def _refuse_types(wanted: str | None, questions: Sequence[Question]) -> None:
    if wanted not in (None, ALL):
        common.one_of(str(wanted), sorted({_type_of(question) for question in questions}), "--type")


def _asked(questions: Sequence[Question], count: int, kinds: str | None) -> list[Any]:
    """Return ``count`` of the questions, ready to be asked; with ``kinds`` as many of one type as of another."""
    from memlong.evaluation.qa import AskedQuestion

    wanted = None if kinds in (None, ALL) else str(kinds).split(",")
    questions = [question for question in questions if wanted is None or _type_of(question) in wanted]
    picked = _of_each_type(questions, count) if kinds else _spread(questions, count)
    return [AskedQuestion(q.question, q.answers, _type_of(q) if kinds else ALL, q.evidence) for q in picked]


def _of_each_type(questions: Sequence[Question], count: int) -> list[Question]:
    """Return ``count`` questions (0: all), as many of one type as of another, evenly spread in each."""
    kinds: dict[str, list[Question]] = {}
    for question in questions:
        kinds.setdefault(_type_of(question), []).append(question)
    each = -(-count // max(1, len(kinds)))
    return [question for kind in sorted(kinds) for question in _spread(kinds[kind], each)]


def _spread(questions: Sequence[Question], count: int) -> list[Question]:
    if not count or count >= len(questions):
        return list(questions)
    return [questions[index * len(questions) // count] for index in range(count)]
