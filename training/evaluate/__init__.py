"""``python -m training evaluate MEASURE MODEL``: scores as a table or JSON.

A measure is one file of this folder with ``add_arguments`` and ``run``, and a line in ``MEASURES``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from training.evaluate import perplexity, qa

Add = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]

MEASURES: dict[str, tuple[str, Add, Run]] = {
    "perplexity": (
        "loss on books at several lengths of context, beside the same model without memory",
        perplexity.add_arguments,
        perplexity.run,
    ),
    "qa": ("questions on long documents, answered in four ways", qa.add_arguments, qa.run),
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
    return MEASURES[chosen.what][2](chosen)
