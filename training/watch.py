"""How a run shows itself: a bar in a terminal, a line a step elsewhere, TensorBoard where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.loop import Report

_BAR = 24


def watcher(folder: Path) -> Callable[[Report], None]:
    """Return what is called after every step."""
    board = _board(folder)

    def watch(report: Report) -> None:
        if board is not None:
            board.add_scalar("loss", report.loss, report.step)
            board.add_scalar("learning_rate", report.learning_rate, report.step)
            board.add_scalar("tokens_per_second", report.tokens_per_second, report.step)
            for name, value in (report.evaluation or {}).items():
                board.add_scalar(f"held_out/{name}", value, report.step)
            board.flush()
        tell(report)

    return watch


def tell(report: Report) -> None:
    """Print one step."""
    line = describe(report)
    if report.evaluation or not sys.stdout.isatty():
        told = ", ".join(f"{name} {value:.3f}" for name, value in (report.evaluation or {}).items())
        judged = f"  held out: {told}" if told else ""
        print(f"{line}  documents {report.documents}{judged}", flush=True)
        return
    done = _BAR * report.step // report.steps
    end = "\n" if report.step == report.steps else ""
    print(f"\r[{'=' * done:<{_BAR}}] {line}\x1b[K", end=end, flush=True)


def describe(report: Report) -> str:
    """Return a step in words: loss, seconds, speed, and the time left at the pace of this step."""
    return (
        f"step {report.step}/{report.steps}  loss {report.loss:.3f}  {report.seconds:.1f} s  "
        f"{report.tokens_per_second:.0f} tokens/s  {time_left((report.steps - report.step) * report.seconds)}"
    )


def time_left(seconds: float) -> str:
    """Return hours and minutes in words."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{f'{hours} h ' if hours else ''}{minutes} min left"


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("TensorBoard is not installed (pip install tensorboard): metrics go to metrics.jsonl alone.", flush=True)
        return None
    return SummaryWriter(str(folder / "tensorboard"))
