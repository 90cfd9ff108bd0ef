"""The loop: draw questions and some parts, and learn to point at the words that answer."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memlong.errors import ConfigError
from memlong.evaluation.answers import exact_match, word_f1
from memlong.retriever.pointer import LONGEST, likeliest_places
from training.point.config import PointConfig
from training.point.examples import Pointed, example, open_ended, usable
from training.point.scorer import PointScorer
from training.rank.config import parse_source
from training.rank.measure import spread
from training.rank.pairs import PairSets, RankedQuestion
from training.rate import cosine_rate
from training.scoring import ScorerTrainer
from training.watch import time_left

_LATE = 50  # steps whose mean tells loss and pace


@dataclass(frozen=True)
class PointReport:
    """One step: a JSON line in ``metrics.jsonl``. ``evaluation``: see :func:`measure`, where it was measured."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float
    evaluation: dict[str, float] | None = None


class PointTrainer(ScorerTrainer[PointReport]):
    """Trains a scorer.

    Args:
        config: the settings. scorer: what learns. pairs: questions by source. folder: for checkpoints and metrics.

    Raises:
        ConfigError: for a source without a question to learn from.
    """

    def __init__(self, config: PointConfig, scorer: PointScorer, pairs: PairSets, folder: Path) -> None:
        self.scorer = scorer
        self.training = [list(filter(usable, pairs.training.get(parse_source(s).name, []))) for s in config.sources]
        kept = {name: list(filter(usable, questions)) for name, questions in pairs.held_out.items()}
        self.held_out = {
            name: [example(question, config, random.Random(question.question)) for question in questions]
            for name, questions in spread(kept, config.eval_questions).items()
        }
        for text, questions in zip(config.sources, self.training):
            if not questions:
                raise ConfigError(f"The source {text} has no question", "Sources with some", "Leave it out")
        super().__init__(config, scorer, folder)

    def advance(self) -> PointReport:
        """Take one step, measure where it is due, and report it."""
        started = time.perf_counter()
        loss = self.train_step()
        self.step += 1
        seconds = time.perf_counter() - started
        evaluation = measure(self.scorer, self.held_out) if self.due else None
        rate = cosine_rate(self.config, self.step)
        return PointReport(self.step, self.config.steps, loss, rate, seconds, evaluation)

    def losses(self) -> Iterator[tuple[Tensor, list[dict[str, Any]]]]:
        """Yield the losses of a few questions at a time, as shares of the mean per question."""
        drawn = self.draw(self.step)
        for start in range(0, len(drawn), self.config.at_once):
            some = drawn[start : start + self.config.at_once]
            yield self.scorer.loss(some) / len(drawn), [asdict(each) for each in some]

    def draw(self, step: int) -> list[Pointed]:
        """Return the questions of a step, short ones first, so that what is read at once is about equally long."""
        rng = random.Random(f"{self.config.seed}:{step}")
        drawn = [self._one(source, rng) for source in self._sources(rng)]
        return sorted(drawn, key=lambda each: each.characters)

    def _sources(self, rng: random.Random) -> list[list[RankedQuestion]]:
        return rng.choices(self.training, self.config.weights, k=self.config.questions)

    def _one(self, source: Sequence[RankedQuestion], rng: random.Random) -> Pointed:
        make = open_ended if rng.random() < self.config.open else example
        return make(rng.choice(source), self.config, rng)


def measure(scorer: PointScorer, examples: Mapping[str, Sequence[Pointed]]) -> dict[str, float]:
    """Return shares from 0 to 1 as "SOURCE/NAME" -> share.

    Where one of the texts read answers: ``right``, the likeliest place has the words of the answer; ``f1``, the words
    it shares with it; ``missed``, of which none is likelier than all places together. Elsewhere ``none``, likewise.
    ``stated`` and ``worked_out``: told apart rightly.
    """
    shares: dict[str, float] = {}
    for source, all_of_source in examples.items():
        seen: dict[str, list[float]] = {}
        for each in all_of_source:
            with torch.inference_mode():
                logits = scorer([each.question] * len(each.texts), each.texts)
            places, nowhere = likeliest_places(logits.span_nT2.float().cpu(), logits.offsets_nT2, LONGEST, 1)
            stated = "stated" if each.stated else "worked_out"
            seen.setdefault(stated, []).append((float(logits.stated_n.mean()) > 0) == each.stated)
            if not each.targets:
                if each.stated:
                    seen.setdefault("none", []).append(nowhere > 0.5)
                continue
            golds = sorted({each.texts[index][slice(*span)] for index, span in each.targets})
            found = each.texts[places[0].number][slice(*places[0].span)]
            seen.setdefault("right", []).append(exact_match(found, golds))
            seen.setdefault("f1", []).append(word_f1(found, golds))
            seen.setdefault("missed", []).append(nowhere > 0.5)
        shares |= {f"{source}/{name}": sum(values) / len(values) for name, values in seen.items()}
    return shares


def teller(say: Callable[[str], None]) -> Callable[[PointReport], None]:
    """Return what is called after every step and says it in words: means of late steps, and the time left."""
    late: deque[PointReport] = deque(maxlen=_LATE)

    def tell(report: PointReport) -> None:
        late.append(report)
        loss, pace = (sum(getattr(each, name) for each in late) / len(late) for name in ("loss", "seconds"))
        shares = "  ".join(f"{name} {share:.3f}" for name, share in (report.evaluation or {}).items())
        judged = f"\nheld out  {shares}" if shares else ""
        left = time_left((report.steps - report.step) * pace)
        say(f"step {report.step}/{report.steps}  loss {report.loss:.3f} (of late {loss:.3f})  {left}{judged}")

    return tell
