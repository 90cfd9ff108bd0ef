"""The loop: draw questions and some of their parts, read them in pairs, and learn to tell which hold the evidence."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memlong.errors import ConfigError
from training.rank.config import RankConfig, parse_source
from training.rank.loss import listwise_loss
from training.rank.measure import measure, spread
from training.rank.pairs import PairSets, RankedQuestion
from training.rank.scorer import PairScorer
from training.rate import cosine_rate
from training.scoring import ScorerTrainer
from training.watch import time_left

_LATE = 50  # steps whose mean tells loss and pace


@dataclass(frozen=True)
class RankReport:
    """One step: a JSON line in ``metrics.jsonl``. ``evaluation``: see ``measure.py``, where it was measured."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float
    questions_per_second: float
    evaluation: dict[str, float] | None = None


@dataclass(frozen=True)
class DrawnPairs:
    """A question and the texts to be read beside it; the first ``positives`` hold the evidence."""

    question: str
    texts: tuple[str, ...]
    positives: int

    @property
    def characters(self) -> int:
        """Length of its longest pair."""
        return len(self.question) + max(map(len, self.texts))


class RankTrainer(ScorerTrainer[RankReport]):
    """Trains a scorer.

    Args:
        config: the settings. scorer: what learns. pairs: questions by source. folder: for checkpoints and metrics.

    Raises:
        ConfigError: for a source without a question to learn from.
    """

    def __init__(self, config: RankConfig, scorer: PairScorer, pairs: PairSets, folder: Path) -> None:
        self.scorer = scorer
        self.training = [pairs.training.get(parse_source(text).name, []) for text in config.sources]
        self.held_out = spread(pairs.held_out, config.eval_questions)
        for text, questions in zip(config.sources, self.training):
            if not questions:
                raise ConfigError(f"The source {text} has no question", "Sources with some", "Leave it out")
        super().__init__(config, scorer, folder)

    def advance(self) -> RankReport:
        """Take one step, measure where it is due, and report it."""
        started = time.perf_counter()
        loss = self.train_step()
        self.step += 1
        speed = self.config.questions / (time.perf_counter() - started)
        evaluation = measure(self.scorer, self.held_out) if self.due else None
        rate, seconds = cosine_rate(self.config, self.step), time.perf_counter() - started
        return RankReport(self.step, self.config.steps, loss, rate, seconds, speed, evaluation)

    def losses(self) -> Iterator[tuple[Tensor, list[dict[str, Any]]]]:
        """Yield the losses of a few questions at a time, as shares of the mean per question."""
        drawn = self.draw(self.step)
        for start in range(0, len(drawn), self.config.at_once):
            some = drawn[start : start + self.config.at_once]
            yield self._loss(some) / len(drawn), [vars(each) for each in some]

    def draw(self, step: int) -> list[DrawnPairs]:
        """Return the questions of a step, short ones first, so that what is read at once is about equally long."""
        rng = random.Random(f"{self.config.seed}:{step}")
        sources = rng.choices(self.training, self.config.weights, k=self.config.questions)
        drawn = [draw_pairs(rng.choice(source), self.config, rng) for source in sources]
        return sorted(drawn, key=lambda each: each.characters)

    def _loss(self, drawn: Sequence[DrawnPairs]) -> Tensor:
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


def teller(say: Callable[[str], None]) -> Callable[[RankReport], None]:
    """Return what is called after every step and says it in words: means of late steps, and the time left."""
    late: deque[RankReport] = deque(maxlen=_LATE)

    def tell(report: RankReport) -> None:
        late.append(report)
        # Without those that measured: the others tell the pace.
        paces = [each.seconds for each in late if each.evaluation is None] or [report.seconds]
        loss, pace = sum(each.loss for each in late) / len(late), sum(paces) / len(paces)
        shares = "  ".join(f"{name} {share:.2f}" for name, share in (report.evaluation or {}).items())
        judged = f"\nheld out  {shares}" if shares else ""
        say(
            f"step {report.step}/{report.steps}  loss {report.loss:.3f} (of late {loss:.3f})  "
            f"{report.questions_per_second:.1f} questions/s  {time_left((report.steps - report.step) * pace)}{judged}"
        )

    return tell
