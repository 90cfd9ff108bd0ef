"""The learning rate of a step."""

from __future__ import annotations

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
