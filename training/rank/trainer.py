"""The loop: draw questions and some of their parts, read them in pairs, and learn to tell which hold the evidence."""

from __future__ import annotations

import json
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from memlong.errors import ConfigError, MemLongError
from training import checkpoint
from training.adapters import trainable
from training.metrics import forget_after
from training.rank.config import RankConfig, parse_source
from training.rank.loss import listwise_loss
from training.rank.measure import measure, spread
from training.rank.pairs import PairSets, RankedQuestion
from training.rank.scorer import PairScorer
from training.rate import cosine_rate
from training.stepping import Stepping
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


class RankTrainer(Stepping[RankReport]):
    """Trains a scorer.

    Args:
        config: the settings. scorer: what learns. pairs: questions by source. folder: for checkpoints and metrics.

    Raises:
        ConfigError: for a source without a question to learn from.
    """

    def __init__(self, config: RankConfig, scorer: PairScorer, pairs: PairSets, folder: Path) -> None:
        self.config, self.scorer, self.folder, self.step = config, scorer, folder, 0
        self.parameters = trainable(scorer)
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=config.learning_rate, weight_decay=0.0)
        self.training = [pairs.training.get(parse_source(text).name, []) for text in config.sources]
        self.held_out = spread(pairs.held_out, config.eval_questions)
        for text, questions in zip(config.sources, self.training):
            if not questions:
                raise ConfigError(f"The source {text} has no question", "Sources with some", "Leave it out")
        folder.mkdir(parents=True, exist_ok=True)

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

    def advance(self) -> RankReport:
        """Take one step, measure where it is due, and report it."""
        started = time.perf_counter()
        loss = self.train_step()
        self.step += 1
        speed = self.config.questions / (time.perf_counter() - started)
        due = self.step % self.config.eval_every == 0 or self.step == self.config.steps
        evaluation = measure(self.scorer, self.held_out) if due else None
        rate, seconds = cosine_rate(self.config, self.step), time.perf_counter() - started
        return RankReport(self.step, self.config.steps, loss, rate, seconds, speed, evaluation)

    def save(self) -> None:
        """Write a checkpoint that :meth:`resume` continues exactly."""
        about = {"config": self.config.to_dict()}
        checkpoint.save(self.folder / "checkpoint", self.step, self.parameters, self.optimizer, about)

    def train_step(self) -> float:
        """Draw, learn, and return the mean loss per question.

        Raises:
            MemLongError: when the loss is not finite; the pairs are saved for inspection and nothing is updated.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(self.config, self.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        drawn, total = self.draw(self.step), 0.0
        for start in range(0, len(drawn), self.config.at_once):
            some = drawn[start : start + self.config.at_once]
            loss = self._loss(some) / len(drawn)
            if not math.isfinite(loss.item()):
                bad = self.folder / f"non-finite-{self.step + 1}.json"
                bad.write_text(json.dumps([vars(each) for each in some], indent=1))
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

    def draw(self, step: int) -> list[DrawnPairs]:
        """Return the questions of a step, short ones first, so that what is read at once is about equally long."""
        rng = random.Random(f"{self.config.seed}:{step}")
        sources = rng.choices(self.training, self.config.weights, k=self.config.questions)
        drawn = [draw_pairs(rng.choice(source), self.config, rng) for source in sources]
        return sorted(drawn, key=lambda each: each.characters)

    def _loss(self, drawn: Sequence[DrawnPairs]) -> torch.Tensor:
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
