"""A training run's steps, as its ``metrics.jsonl`` tells them: one JSON line a step."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

SMOOTHED_OVER = 20  # steps of the running mean
_RECENT = 20  # steps whose time says how fast it goes


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Attributes:
        step, steps: its number, and that of the last one. loss: per answer token. learning_rate: of the step.
        documents: read so far. seconds: it took. held_out: loss on held-out questions; None where none was taken.
        recall: share of held-out questions whose chunk real retrieval found; None likewise.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    documents: int
    seconds: float
    held_out: float | None = None
    recall: float | None = None


def parse(text: str) -> tuple[Step, ...]:
    """Return the steps of a metrics file. A line that is being written is left out; so are steps taken twice.

    A run that was killed goes on from its last checkpoint and tells some steps again: the newer ones count.
    """
    steps: list[Step] = []
    for line in text.split("\n")[:-1]:
        step = _step(line)
        if step is None:
            continue
        while steps and steps[-1].step >= step.step:
            steps.pop()
        steps.append(step)
    return tuple(steps)


def _step(line: str) -> Step | None:
    try:
        values = json.loads(line)
        judged = values.get("evaluation") or {}
        return Step(
            int(values["step"]), int(values["steps"]), float(values["loss"]), float(values["learning_rate"]),
            int(values["documents"]), float(values["seconds"]),
            float(judged["loss"]) if "loss" in judged else None,
            float(judged["recall"]) if "recall" in judged else None,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def running_mean(losses: Sequence[float], over: int = SMOOTHED_OVER) -> list[float]:
    """Return the mean of each value and up to ``over`` - 1 before it."""
    means, total = [], 0.0
    for index, loss in enumerate(losses):
        total += loss - (losses[index - over] if index >= over else 0.0)
        means.append(total / min(index + 1, over))
    return means


def held_out(steps: Sequence[Step]) -> list[Step]:
    """Return the steps at which the run was judged on held-out questions."""
    return [step for step in steps if step.held_out is not None]


def step_seconds(steps: Sequence[Step]) -> float | None:
    """Return the seconds that a step takes now; None before the first."""
    return median(step.seconds for step in steps[-_RECENT:]) if steps else None


def seconds_left(steps: Sequence[Step]) -> float | None:
    """Return the seconds to the end of the recipe at the present speed; None before the first step."""
    if not steps:
        return None
    recent = [step.seconds for step in steps[-_RECENT:]]
    return (steps[-1].steps - steps[-1].step) * sum(recent) / len(recent)


def perplexity(loss: float) -> float:
    """Return e to the power of a loss, cut where no picture could show it."""
    return math.exp(min(loss, 20.0))
