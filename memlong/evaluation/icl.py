"""Classification by examples: in the window, in memory, or both, and without any.

The prompt ends where a label should follow, and the label whose tokens are most likely there is the answer (Brown et
al. 2020, arXiv 2005.14165). Examples in memory are read as one text, and the text to classify retrieves its chunks.

Shapes: L labels, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import torch

from memlong.errors import ConfigError
from memlong.model.wrapper import MemoryModel
from memlong.session import Session

GENERIC = "Text: {text}\nLabel: {label}"
BETWEEN = "\n\n"


@dataclass(frozen=True)
class Example:
    """A text and the words of its label."""

    text: str
    label: str


@dataclass(frozen=True)
class Task:
    """A data set.

    Attributes:
        name: its name. train, test: examples to show and to classify. template: holds {text} and ends with {label}.
    """

    name: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    template: str = GENERIC

    def __post_init__(self) -> None:
        if "{text}" not in self.template or not self.template.endswith("{label}"):
            raise ConfigError(f"Template {self.template!r}", "{text} somewhere and {label} at the end", "Change it")
        if not self.train or not self.test or len(self.labels) < 2:
            given = (
                f"{self.name}: {len(self.train)} examples to show, {len(self.test)} to classify, labels {self.labels}"
            )
            raise ConfigError(given, "Some of both, and two labels or more", "Check the file's fields and splits")

    @property
    def labels(self) -> list[str]:
        """All labels, sorted."""
        return sorted({example.label for example in self.train})

    def shown(self, example: Example) -> str:
        """Return an example with its label."""
        return self.template.replace("{label}", example.label).replace("{text}", example.text)

    def asked(self, text: str) -> str:
        """Return a text without its label; the blank before the label belongs to the label."""
        return self.template.removesuffix("{label}").rstrip().replace("{text}", text)


@dataclass(frozen=True)
class Arm:
    """How many examples stand in the window and how many in memory."""

    window: int
    memory: int

    @property
    def name(self) -> str:
        """In words."""
        parts = [f"{n} in {where}" for n, where in ((self.window, "window"), (self.memory, "memory")) if n]
        return ", ".join(parts) or "none"


@dataclass
class ICLResult:
    """task -> arm -> seed -> share of texts classified right; and the share of each task's commonest label."""

    right: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    commonest: dict[str, float] = field(default_factory=dict)

    def table(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return task -> arm -> mean, deviation (of the sample, 0 with one seed) and each seed's accuracy."""
        return {
            task: {
                arm: {
                    "accuracy": fmean(seeds.values()),
                    "deviation": stdev(seeds.values()) if len(seeds) > 1 else 0.0,
                    "seeds": {str(seed): value for seed, value in seeds.items()},
                    "commonest_label": self.commonest[task],
                }
                for arm, seeds in arms.items()
            }
            for task, arms in self.right.items()
        }


def evaluate_icl(
    reader: tuple[MemoryModel, Any],
    task: Task,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    result: ICLResult,
    progress: Callable[[str], bool] = lambda words: False,
) -> None:
    """Classify the task's test texts by every arm, with other examples for every seed, into ``result``.

    An arm's examples are the first of one balanced, shuffled order a seed, so a larger arm shows the smaller one's too.

    Args:
        reader: a model and a retriever.
        progress: told in words; when it returns True, arms that were not finished are left out.
    """
    result.commonest[task.name] = Counter(example.label for example in task.test).most_common(1)[0][1] / len(task.test)
    for seed in seeds:
        order = balanced(task, seed)
        for arm in arms:
            session = _read(*reader, task, order[: arm.memory])
            before = "".join(task.shown(example) + BETWEEN for example in order[: arm.window])
            right = []
            for number, example in enumerate(task.test, start=1):
                right.append(classify(session, task, before, example.text) == example.label)
                if progress(f"{task.name}, seed {seed}, {arm.name}: {number} of {len(task.test)}"):
                    return
            result.right.setdefault(task.name, {}).setdefault(arm.name, {})[seed] = fmean(right)


def balanced(task: Task, seed: int) -> list[Example]:
    """Return the examples to show in a seed's order, labels taking turns as long as each has some left."""
    rng = random.Random(f"{task.name} {seed}")
    piles = {label: [example for example in task.train if example.label == label] for label in task.labels}
    for pile in piles.values():
        rng.shuffle(pile)
    order: list[Example] = []
    while any(piles.values()):
        turn = [pile.pop() for pile in piles.values() if pile]
        rng.shuffle(turn)  # the last label before the prompt is a hint that should not always be the same
        order += turn
    return order


def classify(session: Session, task: Task, before: str, text: str) -> str:
    """Return the most likely label of a text, after the examples ``before`` and with what memory holds.

    Raises:
        ConfigError: when the examples leave no room in the model's positions.
    """
    model, tokenizer = session.model, session.tokenizer
    prompt = before + task.asked(text)
    start = len(tokenizer(prompt)["input_ids"])
    rows = [tokenizer(f"{prompt} {label}")["input_ids"] for label in task.labels]
    longest = max(map(len, rows))
    if longest > (model.spec.max_positions or longest):
        raise ConfigError(
            f"{longest:,} tokens of examples and text", f"{model.spec.max_positions:,} fit", "Show fewer in the window"
        )
    # Padding stands behind the labels, where causal attention does not look.
    ids_LT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=model.device)
    with torch.no_grad():
        logits = model.forward(
            ids_LT, _memory(session, task.asked(text), len(rows)), logits_to_keep=longest - start + 1
        )
    logprobs_LTV = logits.logits[:, -(longest - start + 1) :].float().log_softmax(dim=-1)
    totals = [
        sum(float(logprobs_LTV[number, at, token]) for at, token in enumerate(row[start:]))
        for number, row in enumerate(rows)
    ]
    return task.labels[max(range(len(totals)), key=totals.__getitem__)]


def _read(model: MemoryModel, retriever: Any, task: Task, examples: Sequence[Example]) -> Session:
    session = Session(model, retriever)
    if examples:
        session.read(BETWEEN.join(task.shown(example) for example in examples), task.name)
    return session


def _memory(session: Session, query: str, rows: int) -> Any:
    """Return what ``rows`` equal rows read: the chunks that a text retrieves; None from an empty bank."""
    if not len(session.bank):
        return None
    hits = session.search(session.embed_query(query), session.config.top_k, question=query)
    ids = session.in_document_order(hit.chunk_id for hit in hits)
    gathered = session.bank.gather(ids, session.model.dtype, session.model.device)
    row = (gathered.keys_SNGCD, gathered.values_SNGCD, session.bank.lengths(ids))
    return session.model.stack_memory([row] * rows)
