"""``python -m training evaluate qa MODEL``: answers scored in four ways, as JSON or a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from memlong.config import ANSWER_FROM, AskOptions
from memlong.errors import ConfigError
from training.data.chronicle import make_chronicle
from training.data.questions import Question, load_with_documents

Asked = tuple[str, str, list[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``evaluate``."""
    parser.add_argument("what", choices=("qa",))
    parser.add_argument(
        "model", help='"bundled", "bundled-base" (its weights without our adapter), a folder or a hub id'
    )
    parser.add_argument("--source", required=True, help='"chronicle", or a JSONL file of questions')
    parser.add_argument("--documents", nargs="*", default=[], help="JSONL files that hold the documents")
    parser.add_argument("--tokens", type=int, default=80_000, help="length of a chronicle")
    parser.add_argument("--seed", type=int, default=7, help="of the chronicle")
    parser.add_argument(
        "--questions",
        type=int,
        default=40,
        help="questions a document, spread evenly, over types too where they are told apart (0: all)",
    )
    parser.add_argument("--limit", type=int, default=0, help="documents, shortest first (0: all)")
    parser.add_argument("--capacity-tokens", type=int, help="size of the bank (default: the model's)")
    parser.add_argument("--policy", help="eviction policy (default: the model's)")
    parser.add_argument("--top-k", type=int, help="chunks fetched (default: the model's)")
    parser.add_argument("--ways", default=",".join(ANSWER_FROM), help="comma-separated")
    parser.add_argument(
        "--by-type", action="store_true", help='one row a question type instead of "all" (a chronicle always has them)'
    )
    parser.add_argument("--retriever", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's choice)")
    parser.add_argument("--rows", type=Path, help="write every answer into this JSONL file")
    parser.add_argument("--json", action="store_true")


def run(chosen: argparse.Namespace) -> int:
    """Evaluate and print.

    Raises:
        MemLongError: for unknown names or unreadable files.
    """
    import torch

    from memlong.evaluation.qa import evaluate_qa
    from memlong.retriever import make_retriever

    ways = [way for way in chosen.ways.split(",") if way]
    if not set(ways) <= set(ANSWER_FROM):
        raise ConfigError(f"--ways {chosen.ways}", ", ".join(ANSWER_FROM), "Name some of these, separated by commas")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    model = load(chosen)
    result = evaluate_qa(
        model,
        make_retriever(chosen.retriever),
        documents(chosen),
        ways,
        AskOptions(top_k=chosen.top_k, max_tokens=32, record_attention=False),
        progress=_progress,
    )
    if chosen.rows:
        chosen.rows.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in result.rows))
    table = result.table()
    if chosen.json:
        print(json.dumps(table, indent=1))
    else:
        print(f"{'type':16}{'way':10}{'questions':>10}{'exact':>8}{'F1':>8}{'recall':>8}{'seconds':>9}")
        for kind, rows in table.items():
            for way, row in rows.items():
                recall = f"{row['evidence_recall']:8.2f}" if "evidence_recall" in row else " " * 8
                print(
                    f"{kind:16}{way:10}{row['questions']:10.0f}{row['exact']:8.2f}{row['f1']:8.2f}{recall}{row['seconds']:9.2f}"
                )
    return 0


def load(chosen: argparse.Namespace) -> Any:
    """Return the model to evaluate, with the memory settings of the command line."""
    from memlong.model.load import load_model

    model = load_model(chosen.model)
    given = {
        name: getattr(chosen, name)
        for name in ("capacity_tokens", "policy", "top_k")
        if getattr(chosen, name) is not None
    }
    return model.with_config(model.config.replace(**given))


def documents(chosen: argparse.Namespace) -> Iterator[Asked]:
    """Yield (title, text, questions) of the chosen source."""
    from memlong.evaluation.qa import AskedQuestion

    by_type = chosen.by_type or chosen.source == "chronicle"

    def asked(questions: Sequence[Question]) -> list[AskedQuestion]:
        picked = _of_each_type(questions, chosen.questions) if by_type else _spread(questions, chosen.questions)
        return [AskedQuestion(q.question, q.answers, q.type if by_type else "all", q.evidence) for q in picked]

    if chosen.source == "chronicle":
        chronicle = make_chronicle(chosen.seed, chosen.tokens)
        yield chronicle.title, chronicle.text, asked(chronicle.questions)
        return
    if not chosen.documents:
        raise ConfigError(
            f"--source {chosen.source} without --documents", "Questions and their documents", "Name the files"
        )
    questions, texts = load_with_documents(chosen.source, chosen.documents)
    ordered = sorted(texts.values(), key=lambda text: len(text.text))
    for text in ordered[: chosen.limit or None]:
        mine = [question for question in questions if question.doc_id == text.doc_id and question.answerable]
        if mine:
            yield text.title, text.text, asked(mine)


def _of_each_type(questions: Sequence[Question], count: int) -> list[Question]:
    """Return ``count`` questions (0: all), as many of one type as of another, evenly spread in each."""
    kinds: dict[str, list[Question]] = {}
    for question in questions:
        kinds.setdefault(question.type, []).append(question)
    each = -(-count // max(1, len(kinds)))
    return [question for kind in sorted(kinds) for question in _spread(kinds[kind], each)]


def _spread(questions: Sequence[Question], count: int) -> list[Question]:
    if not count or count >= len(questions):
        return list(questions)
    return [questions[index * len(questions) // count] for index in range(count)]


def _progress(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{words}\x1b[K", end="", file=sys.stderr, flush=True)
