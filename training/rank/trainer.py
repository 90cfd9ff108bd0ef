"""The loop: draw questions and some of their parts, read them in pairs, and learn to tell which hold the evidence."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.rank.config import RankConfig
from training.rank.drawing import Drawn, PairTrainer
from training.rank.loss import listwise_loss
from training.rank.measure import measure, spread
from training.rank.pairs import PairSets, RankedQuestion
from training.rank.scorer import PairScorer


@dataclass(frozen=True)
class DrawnPairs(Drawn):
    """The first ``positives`` of the texts hold the evidence."""

    positives: int


class RankTrainer(PairTrainer[DrawnPairs]):
    """Trains a scorer.

    Args:
        config: the settings. scorer: what learns. pairs: questions by source. folder: for checkpoints and metrics.

    Raises:
        ConfigError: for a source without a question to learn from.
    """

    def __init__(self, config: RankConfig, scorer: PairScorer, pairs: PairSets, folder: Path) -> None:
        super().__init__(config, scorer, pairs, folder)
        self.scorer, self.held_out = scorer, spread(pairs.held_out, config.eval_questions)

    def measure(self) -> dict[str, float]:
        """Return the shares of ``measure.py``."""
        return measure(self.scorer, self.held_out)

    def one(self, question: RankedQuestion, rng: random.Random) -> DrawnPairs:
        """Return some parts that hold the evidence, if any, and others that do not."""
        return draw_pairs(question, self.config, rng)

    def loss_of(self, drawn: Sequence[DrawnPairs]) -> Tensor:
        """Return the sum of the losses of questions."""
        questions = [each.question for each in drawn for _ in each.texts]
        logits = self.scorer(questions, [text for each in drawn for text in each.texts])
        rows = zip(drawn, logits.split([len(each.texts) for each in drawn]))
        return torch.stack([listwise_loss(row[: each.positives], row[each.positives :]) for each, row in rows]).sum()


def draw_pairs(question: RankedQuestion, config: RankConfig, rng: random.Random) -> DrawnPairs:
    """Return some parts of a question that hold the evidence, if any, and others that do not."""
    held = question.positives
    held = tuple(rng.sample(held, min(config.positives, config.pairs - 1, len(held))))
    others = [each for each in question.candidates if not each.holds]
    others = rng.sample(others, min(config.pairs - len(held), len(others)))
    return DrawnPairs(question.question, tuple(each.text for each in (*held, *others)), len(held))
