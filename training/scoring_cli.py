"""The command line of ``rank``, ``decompose`` and ``point``. No torch: settings are shown without it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from training.interrupts import remember_interrupts
from training.settings import Settings, assignments

C = TypeVar("C", bound=Settings)
Train = Callable[[C, Path, Callable[[str], None], Callable[[], list[int]]], None]
"""Takes settings, a folder, what is told of progress, and what returns a list that is filled to stop it."""


def add_arguments(parser: argparse.ArgumentParser, out: Path) -> None:
    """Add what the command of such a run takes; ``out``: its folder where none is named."""
    parser.add_argument("settings", nargs="*", metavar="key=value", help="any setting, changed (see --show)")
    parser.add_argument("--out", type=Path, default=out, help=f"folder of the run (default: {out})")
    parser.add_argument("--show", action="store_true", help="print every setting and train nothing")


def run(chosen: argparse.Namespace, config: C, train: Train[C]) -> int:
    """Show the settings, or train (or go on); an interrupt stops after the step at hand.

    Raises:
        MemLongError: for unknown settings, sources that are not there, or a loss that is not finite.
    """
    config = config.override(assignments(chosen.settings))
    if chosen.show:
        print(json.dumps(config.to_dict(), indent=1))
        return 0
    train(config, chosen.out, lambda words: print(words, flush=True), remember_interrupts)
    return 0
