"""The loop: draw questions, and learn which of their words must be found first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memlong.retriever.decomposer import LONGEST, best_span
from training.decompose.config import DecomposeConfig
from training.decompose.examples import ExampleSets, draw
from training.decompose.patterns import Example
from training.decompose.scorer import SpanScorer
from training.scoring import ScorerTrainer

_AT_ONCE = 64
_SURE = (0.0, 3.0)  # logits over the null place


class DecomposeTrainer(ScorerTrainer):
    """Trains a scorer.

    Args:
        config: the settings. scorer: what learns. sets: examples by kind. folder: for checkpoints and metrics.
    """

    def __init__(self, config: DecomposeConfig, scorer: SpanScorer, sets: ExampleSets, folder: Path) -> None:
        super().__init__(config, scorer, folder)
        self.scorer, self.sets = scorer, sets

    def measure(self) -> dict[str, float]:
        """Return the shares of :func:`measure`."""
        return measure(self.scorer, self.sets.held_out)

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
