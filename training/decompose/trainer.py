"""The loop: draw questions, and learn which of their words must be found first."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memlong.retriever.decomposer import LONGEST, best_span
from training.decompose.config import DecomposeConfig
from training.decompose.examples import ExampleSets, draw
from training.decompose.patterns import Example
from training.decompose.scorer import SpanScorer
from training.rate import cosine_rate
from training.scoring import ScorerTrainer
from training.watch import time_left

_LATE = 50  # steps whose mean tells loss and pace
_AT_ONCE = 64
_SURE = (0.0, 3.0)  # logits over the null place


@dataclass(frozen=True)
class DecomposeReport:
    """One step: a JSON line in ``metrics.jsonl``. ``evaluation``: see :func:`measure`, where it was measured."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float
    evaluation: dict[str, float] | None = None


class DecomposeTrainer(ScorerTrainer[DecomposeReport]):
    """Trains a scorer.

    Args:
        config: the settings. scorer: what learns. sets: examples by kind. folder: for checkpoints and metrics.
    """

    def __init__(self, config: DecomposeConfig, scorer: SpanScorer, sets: ExampleSets, folder: Path) -> None:
        super().__init__(config, scorer, folder)
        self.scorer, self.sets = scorer, sets

    def advance(self) -> DecomposeReport:
        """Take one step, measure where it is due, and report it."""
        started = time.perf_counter()
        loss = self.train_step()
        self.step += 1
        seconds = time.perf_counter() - started
        evaluation = measure(self.scorer, self.sets.held_out) if self.due else None
        rate = cosine_rate(self.config, self.step)
        return DecomposeReport(self.step, self.config.steps, loss, rate, seconds, evaluation)

    def losses(self) -> Iterator[tuple[Tensor, list[dict[str, Any]]]]:
        """Yield the mean loss of all questions of a step."""
        drawn = draw(self.sets.training, self.config, self.step)
        yield self.scorer.loss(drawn), [each._asdict() for each in drawn]


def measure(scorer: SpanScorer, examples: Mapping[str, Sequence[Example]]) -> dict[str, float]:
    """Return shares from 0 to 1 as "KIND/NAME" -> share, for a span that beats the null place by 0 and by 3 logits.

    ``right``, of questions that take two steps: their words were marked, all of them and no others, and ``asked`` as
    what they are, somebody or something. ``taken_apart``, of the others: wrongly so.
    """
    shares: dict[str, float] = {}
    for kind, all_of_kind in examples.items():
        seen: dict[str, list[bool]] = {}
        for start in range(0, len(all_of_kind), _AT_ONCE):
            some = all_of_kind[start : start + _AT_ONCE]
            with torch.inference_mode():
                logits = scorer([example.question for example in some])
            for row, example in enumerate(some):
                found = best_span(logits.span_nT2[row].float().cpu(), LONGEST)
                margin = found[2] if found else -math.inf
                places = logits.places[row]
                span = (places[found[0]][0], places[found[1]][1]) if found else None
                for sure in _SURE:
                    if example.inner is None:
                        seen.setdefault(f"{kind}/taken_apart_{sure:g}", []).append(margin >= sure)
                    else:
                        right = margin >= sure and span == tuple(example.inner)
                        seen.setdefault(f"{kind}/right_{sure:g}", []).append(right)
                if example.inner is not None:
                    seen.setdefault(f"{kind}/asked", []).append(bool(logits.person_n[row] > 0) == example.person)
        shares |= {name: sum(each) / len(each) for name, each in seen.items()}
    return shares


def teller(say: Callable[[str], None]) -> Callable[[DecomposeReport], None]:
    """Return what is called after every step and says it in words: means of late steps, and the time left."""
    late: deque[DecomposeReport] = deque(maxlen=_LATE)

    def tell(report: DecomposeReport) -> None:
        late.append(report)
        loss, pace = (sum(getattr(each, name) for each in late) / len(late) for name in ("loss", "seconds"))
        shares = "  ".join(f"{name} {share:.3f}" for name, share in (report.evaluation or {}).items())
        judged = f"\nheld out  {shares}" if shares else ""
        left = time_left((report.steps - report.step) * pace)
        say(f"step {report.step}/{report.steps}  loss {report.loss:.3f} (of late {loss:.3f})  {left}{judged}")

    return tell
