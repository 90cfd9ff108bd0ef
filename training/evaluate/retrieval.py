"""``evaluate retrieval``: how often the evidence is among the chunks that would be fetched, without any reading."""

from __future__ import annotations

import argparse

from training.evaluate import common, qa


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line: the documents and questions of ``qa``, and how deep to look."""
    common.add_model_arguments(parser)
    qa.add_question_arguments(parser)
    parser.add_argument("--at", type=common.numbers, default=[1, 2, 4, 8], help="numbers of chunks fetched")


def run(chosen: argparse.Namespace) -> int:
    """Rank and print.

    Raises:
        MemLongError: for unknown names or unreadable files.
    """
    documents = qa.documents(chosen)
    from memlong.evaluation.recall import evidence_recall

    model, retriever = common.load(chosen)
    with common.Watch() as watch:
        found = evidence_recall(documents, model.tokenizer, retriever, model.config, watch)
    table = found.table(chosen.at)
    return common.publish(chosen, (model, retriever), table, lines_of(table), watch.stopped)


def lines_of(table: dict[str, dict[str, float]]) -> list[str]:
    """Return the table as lines of text."""
    if not table:
        return ["No question says where its evidence stands."]
    columns = list(next(iter(table.values())))
    width = max([16, *(len(kind) + 2 for kind in table)])
    lines = [f"{'type':{width}}" + "".join(f"{name:>11}" for name in columns)]
    for kind, row in table.items():
        cells = (f"{row[name]:.0f}" if name == "questions" else f"{row[name]:.2f}" for name in columns)
        lines.append(f"{kind:{width}}" + "".join(f"{cell:>11}" for cell in cells))
    return lines
