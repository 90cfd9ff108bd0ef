"""The loop: draw questions and some parts, and learn to point at the words that answer."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from memlong.evaluation.answers import exact_match, word_f1
from memlong.retriever.pointer import LONGEST, likeliest_places
from training.point.config import PointConfig
from training.point.examples import Pointed, example, open_ended, usable
from training.point.scorer import PointScorer
from training.rank.drawing import PairTrainer
from training.rank.measure import spread
from training.rank.pairs import PairSets, RankedQuestion


class PointTrainer(PairTrainer[Pointed]):
    """Trains a scorer.

    Args:
        config: the settings. scorer: what learns. pairs: questions by source. folder: for checkpoints and metrics.

    Raises:
        ConfigError: for a source without a question to learn from.
    """

    def __init__(self, config: PointConfig, scorer: PointScorer, pairs: PairSets, folder: Path) -> None:
        super().__init__(config, scorer, pairs, folder, usable)
        self.scorer = scorer
        kept = {name: list(filter(usable, questions)) for name, questions in pairs.held_out.items()}
        self.held_out = {
            name: [example(question, config, random.Random(question.question)) for question in questions]
            for name, questions in spread(kept, config.eval_questions).items()
        }

    def measure(self) -> dict[str, float]:
        """Return the shares of :func:`measure`."""
        return measure(self.scorer, self.held_out)

    def one(self, question: RankedQuestion, rng: random.Random) -> Pointed:
        """Return some parts of a question, and where its answer stands; at times another question beside them."""
        make = open_ended if rng.random() < self.config.open else example
        return make(question, self.config, rng)

    def loss_of(self, drawn: Sequence[Pointed]) -> Tensor:
        """Return the sum of the losses of questions."""
        return self.scorer.loss(drawn)


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
