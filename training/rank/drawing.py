"""What runs on pairs of questions and parts share: sources drawn by their weights, a few questions read at once."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from memlong.errors import ConfigError
from training.rank.config import RankConfig, parse_source
from training.rank.pairs import PairSets, RankedQuestion
from training.scoring import ScorerTrainer


@dataclass(frozen=True)
class Drawn:
    """A question and the texts to be read beside it."""

    question: str
    texts: tuple[str, ...]

    @property
    def characters(self) -> int:
        """Length of its longest pair."""
        return len(self.question) + max(map(len, self.texts))


D = TypeVar("D", bound=Drawn)


class PairTrainer(ScorerTrainer, Generic[D]):
    """Trains a scorer of pairs.

    Args:
        config: the settings. scorer: what learns. pairs: questions by source. folder: for checkpoints and metrics.
        usable: which questions can be learned from; None takes all.

    Raises:
        ConfigError: for a source without a question to learn from.
    """

    def __init__(
        self,
        config: RankConfig,
        scorer: nn.Module,
        pairs: PairSets,
        folder: Path,
        usable: Callable[[RankedQuestion], bool] | None = None,
    ) -> None:
        self.training = [list(filter(usable, pairs.training.get(parse_source(s).name, []))) for s in config.sources]
        for text, questions in zip(config.sources, self.training):
            if not questions:
                raise ConfigError(f"The source {text} has no question", "Sources with some", "Leave it out")
        super().__init__(config, scorer, folder)

    @abstractmethod
    def one(self, question: RankedQuestion, rng: random.Random) -> D:
        """Return what is to be read of a question."""

    @abstractmethod
    def loss_of(self, drawn: Sequence[D]) -> Tensor:
        """Return the sum of the losses of questions."""

    def losses(self) -> Iterator[tuple[Tensor, list[dict[str, Any]]]]:
        """Yield the losses of a few questions at a time, as shares of the mean per question."""
        drawn = self.draw(self.step)
        for start in range(0, len(drawn), self.config.at_once):
            some = drawn[start : start + self.config.at_once]
            yield self.loss_of(some) / len(drawn), [asdict(each) for each in some]

    def draw(self, step: int) -> list[D]:
        """Return the questions of a step, short ones first, so that what is read at once is about equally long."""
        rng = random.Random(f"{self.config.seed}:{step}")
        sources = rng.choices(self.training, self.config.weights, k=self.config.questions)
        drawn = [self.one(rng.choice(source), rng) for source in sources]
        return sorted(drawn, key=lambda each: each.characters)
