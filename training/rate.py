"""The learning rate of a step."""

from __future__ import annotations

import math
from typing import Protocol


class RateSettings(Protocol):
    """What a recipe says about its rate."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def steps(self) -> int: ...


def learning_rate(config: RateSettings, step: int) -> float:
    """Return the rate of a step (from 1): linear warm-up, then linear decay to a tenth."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    left = (config.steps - step) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (0.1 + 0.9 * max(0.0, left))


def cosine_rate(config: RateSettings, step: int) -> float:
    """Return the rate of a step (from 1): half a cosine over all steps, to a fiftieth, and linear warm-up.

    Source: Loshchilov and Hutter, SGDR (arXiv 1608.03983), without restarts.
    """
    warm = min(1.0, step / config.warmup_steps)
    return config.learning_rate * warm * max(0.02, (1 + math.cos(math.pi * (step - 1) / config.steps)) / 2)
