"""What training a small scorer takes, whatever it scores: steps with one optimiser, refused losses, exact resume.

``rank``, ``decompose`` and ``point`` are such runs.
"""

from __future__ import annotations

import json
import math
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memlong.errors import MemLongError
from training import checkpoint
from training.adapters import trainable
from training.metrics import forget_after
from training.rate import cosine_rate
from training.stepping import Stepping
from training.watch import time_left

_LATE = 50  # steps whose mean tells loss and pace


@dataclass(frozen=True)
class ScoringReport:
    """One step: a JSON line in ``metrics.jsonl``.

    Attributes:
        seconds: of the step itself. evaluation: shares by name, where held-out questions were measured after it.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float
    questions_per_second: float
    evaluation: dict[str, float] | None = None


class ScorerTrainer(Stepping[ScoringReport]):
    """Trains what of a scorer is to be trained.

    Args:
        config: the settings. scorer: what learns. folder: for checkpoints and metrics.
    """

    def __init__(self, config: Any, scorer: nn.Module, folder: Path) -> None:
        self.config, self.folder, self.step = config, folder, 0
        self.parameters = trainable(scorer)
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=config.learning_rate, weight_decay=0.0)
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def losses(self) -> Iterator[tuple[Tensor, list[dict[str, Any]]]]:
        """Yield what this step's loss is the sum of, and what was drawn for each as JSON values."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Return what held-out questions say of the scorer as it is: shares from 0 to 1 by name."""

    def advance(self) -> ScoringReport:
        """Take one step, measure where it is due, and report it."""
        started = time.perf_counter()
        loss = self.train_step()
        self.step += 1
        seconds = time.perf_counter() - started
        rate, speed = cosine_rate(self.config, self.step), self.config.questions / seconds
        evaluation = self.measure() if self.due else None
        return ScoringReport(self.step, self.config.steps, loss, rate, seconds, speed, evaluation)

    def resume(self) -> bool:
        """Continue from the folder's checkpoint if there is one, and say whether there was.

        Raises:
            PersistError: when the checkpoint holds other parameters.
        """
        found = checkpoint.find(self.folder / "checkpoint")
        if found is not None:
            self.step = int(checkpoint.load(found, self.parameters, self.optimizer)["step"])
        forget_after(self.folder, self.step)
        return found is not None

    def save(self) -> None:
        """Write a checkpoint that :meth:`resume` continues exactly."""
        about = {"config": self.config.to_dict()}
        checkpoint.save(self.folder / "checkpoint", self.step, self.parameters, self.optimizer, about)

    @property
    def due(self) -> bool:
        """Whether to measure after the step just taken."""
        return self.step % self.config.eval_every == 0 or self.step == self.config.steps

    def train_step(self) -> float:
        """Draw, learn, and return the loss.

        Raises:
            MemLongError: when it is not finite; what was drawn is saved for inspection and nothing is updated.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(self.config, self.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for loss, drawn in self.losses():
            if not math.isfinite(loss.item()):
                bad = self.folder / f"non-finite-{self.step + 1}.json"
                bad.write_text(json.dumps(drawn, indent=1))
                raise MemLongError(
                    f"The loss of step {self.step + 1} is {loss.item()}",
                    "A finite loss",
                    f"Look at {bad.name}, lower the learning rate and resume from the last checkpoint",
                )
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        self.optimizer.step()
        return total


def train_and_write(
    trainer: ScorerTrainer, write: Callable[[], Path], say: Callable[[str], None], interrupts: Callable[[], list[int]]
) -> None:
    """Train to the last step, or go on to it, or until it is stopped, and write what came of it.

    Args:
        write: returns where it was written. say: is told of progress.
        interrupts: called before the first step; what it returns is filled when the run should stop.

    Raises:
        MemLongError: for a loss that is not finite.
    """
    say(f"resumed at step {trainer.step}" if trainer.resume() else "started")
    stop = interrupts()
    trainer.run(_teller(say), stopped=lambda: bool(stop))
    written = write()
    say(f"{'stopped' if stop else 'done'} at step {trainer.step}; wrote {written}")


def _teller(say: Callable[[str], None]) -> Callable[[ScoringReport], None]:
    """Return what is called after every step and says it in words: means of late steps, and the time left."""
    late: deque[ScoringReport] = deque(maxlen=_LATE)

    def tell(report: ScoringReport) -> None:
        late.append(report)
        loss, pace = (sum(getattr(each, name) for each in late) / len(late) for name in ("loss", "seconds"))
        shares = "  ".join(f"{name} {share:.3f}" for name, share in (report.evaluation or {}).items())
        judged = f"\nheld out  {shares}" if shares else ""
        say(
            f"step {report.step}/{report.steps}  loss {report.loss:.3f} (of late {loss:.3f})  "
            f"{report.questions_per_second:.1f} questions/s  {time_left((report.steps - report.step) * pace)}{judged}"
        )

    return tell
