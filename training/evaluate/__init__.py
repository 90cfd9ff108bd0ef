"""``python -m training evaluate {perplexity,icl,qa,retrieval,needle,kv} MODEL``: scores as a table or JSON.

A measure is one file of this folder with ``add_arguments`` and ``run``, and a line in ``MEASURES``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from training.evaluate import common, grids, icl, perplexity, qa, retrieval

Add = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]

MEASURES: dict[str, tuple[str, Add, Run]] = {
    "perplexity": (
        "loss on books at several lengths of context, beside the same model without memory",
        perplexity.add_arguments,
        perplexity.run,
    ),
    "icl": ("classify by examples, in the window and in memory", icl.add_arguments, icl.run),
    "qa": ("questions on long documents, answered in four ways", qa.add_arguments, qa.run),
    "retrieval": (
        "how often the evidence is among the chunks found, without reading",
        retrieval.add_arguments,
        retrieval.run,
    ),
    "needle": ("one sentence hidden in a long text", grids.add_needle_arguments, grids.run_needle),
    "kv": ("the value of one key among very many", grids.add_kv_arguments, grids.run_kv),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``evaluate``."""
    measures: Any = parser.add_subparsers(dest="what", required=True, metavar="{" + ",".join(MEASURES) + "}")
    for name, (words, add, _) in MEASURES.items():
        add(measures.add_parser(name, help=words, description=words))


def run(chosen: argparse.Namespace) -> int:
    """Evaluate and print.

    Raises:
        MemLongError: for unknown names or unreadable files.
    """
    common.refuse_early(chosen)
    return MEASURES[chosen.what][2](chosen)
