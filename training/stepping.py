"""What every kind of run shares: step after step to the last one, each told in a line, with checkpoints in between."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from training.metrics import METRICS

R = TypeVar("R")


class Stepping(ABC, Generic[R]):
    """A run of ``config.steps`` steps; ``R`` is the dataclass that reports one.

    Attributes:
        config: has ``steps`` and ``save_every``. folder: for checkpoints and metrics. step: steps taken so far.
    """

    config: Any
    folder: Path
    step: int

    def run(self, on_report: Callable[[R], None] | None = None, stopped: Callable[[], bool] = lambda: False) -> None:
        """Train to the last step, or until ``stopped()``; the last checkpoint is always written."""
        try:
            while self.step < self.config.steps and not self.ends(stopped()):
                report = self.advance()
                if self.tells:
                    with (self.folder / METRICS).open("a") as file:
                        file.write(json.dumps(vars(report)) + "\n")
                    if on_report:
                        on_report(report)
                if self.step % self.config.save_every == 0:
                    self.save()
            self.save()
        finally:
            self.rest()

    def rest(self) -> None:
        """Let go of what works beside the steps."""

    @abstractmethod
    def advance(self) -> R:
        """Take one step, evaluate where it is due, and report it."""

    @abstractmethod
    def save(self) -> Any:
        """Write a checkpoint that a run continues exactly."""

    @property
    def tells(self) -> bool:
        """Whether this process writes and shows reports: of several one does."""
        return True

    def ends(self, asked: bool) -> bool:
        """Return whether to stop, given whether this process was asked to."""
        return asked
