"""Settings of a cross-encoder's training."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from memlong.errors import ConfigError, unknown_name
from training.config import ARITHMETIC
from training.settings import Settings, above_zero, at_least_one

CHRONICLE = "chronicle"
MOST_TOKENS = 512


@dataclass(frozen=True)
class Source:
    """A source by name and how many documents, and questions of each, are taken of it; None: all."""

    name: str
    documents: int | None = None
    questions: int | None = None

    @property
    def states_facts(self) -> bool:
        """Whether evidence is the sentence that states a fact, and not a passage in which the answer stands."""
        return self.name.startswith(CHRONICLE)


def parse_source(text: str) -> Source:
    """Return the source that NAME, NAME:DOCUMENTS or NAME:DOCUMENTS:QUESTIONS names.

    Raises:
        ConfigError: for numbers that are none.
    """
    name, *numbers = text.split(":")
    if len(numbers) > 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise ConfigError(
            f"The source {text}",
            "NAME, NAME:DOCUMENTS or NAME:DOCUMENTS:QUESTIONS",
            "Write for example chronicle:20:80",
        )
    return Source(name, *map(int, numbers))


@dataclass(frozen=True)
class RankConfig(Settings):
    """MiniLM with low-rank updates, trained to tell parts that hold the evidence from others.

    Attributes:
        sources: NAME, NAME:DOCUMENTS or NAME:DOCUMENTS:QUESTIONS, at most so many documents and questions of each; NAME
            as in ``data/sources.py``, or chronicle-TOKENS for longer chronicles than those of ``chronicle``.
        weights: of the sources in their order: shares of the questions drawn, up to a factor.
        data: folder that holds the sources.
        held_out: last documents of each source that are kept out of training, a fifth of them at most.
        chunk_tokens: of chunks, which end with sentences.
        candidates, parts: chunks that a question finds first, and parts of each whose words match best: what is read.
        steps, questions: optimiser steps, and questions of each.
        pairs: of a question in a step: up to ``positives`` parts that hold the evidence, the others do not.
        at_once: questions in one forward pass.
        rank: of the updates. max_tokens: of a pair; a longer one loses the end of its longer text.
        learning_rate, warmup_steps: AdamW; after warm-up the rate falls by a cosine to a fiftieth.
        clip_norm: of the gradient.
        eval_every, eval_questions: steps between measurements, and held-out questions of each source in them.
        save_every: steps between checkpoints.
        seed: of every random choice; a step's choices depend on (seed, step) alone, so a resumed run repeats them.
        threads: CPU threads.
        arithmetic: of the forward pass: float32, bfloat16 (frozen weights too; trained ones stay float32), or "auto",
            which takes whichever multiplies faster here.
    """

    sources: tuple[str, ...] = (
        "squad", "swapped:150:60", "chronicle:50:80", "chronicle-24000:12:240", "chronicle-80000:5:500", "fairytale",
        "nq:90", "qamr:4:120",
    )  # fmt: skip
    # The three lengths of chronicles share 0.27 by their numbers of questions.
    weights: tuple[float, ...] = (0.36, 0.12, 0.1145, 0.0833, 0.0722, 0.15, 0.07, 0.03)
    data: str = "../shared/data"
    held_out: int = 5
    chunk_tokens: int = 256
    candidates: int = 12
    parts: int = 2
    steps: int = 2400
    questions: int = 8
    pairs: int = 9
    positives: int = 3
    at_once: int = 2
    rank: int = 8
    max_tokens: int = 112
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    clip_norm: float = 1.0
    eval_every: int = 400
    eval_questions: int = 40
    save_every: int = 50
    seed: int = 0
    threads: int = 2
    arithmetic: str = "auto"

    def __post_init__(self) -> None:
        counts = ("held_out", "candidates", "parts", "steps", "questions", "positives", "at_once", "rank", "threads")
        at_least_one(self, (*counts, "warmup_steps", "eval_every", "eval_questions", "save_every"))
        for name, least in (("chunk_tokens", 32), ("max_tokens", 16), ("pairs", 2)):
            if getattr(self, name) < least:
                given = f"{name}={getattr(self, name)}"
                raise ConfigError(given, f"A whole number from {least}", f"Raise {name}")
        if self.max_tokens > MOST_TOKENS:
            given, most = f"max_tokens={self.max_tokens}", f"At most {MOST_TOKENS}, which MiniLM reads at once"
            raise ConfigError(given, most, "Lower max_tokens")
        names = [parse_source(text).name for text in self.sources]
        if len(set(names)) < len(names):
            given = f"sources={','.join(self.sources)}"
            raise ConfigError(given, "Every source once", "Raise its numbers instead")
        usable = [each for each in self.weights if 0 < each < inf]
        if not self.sources or not len(self.sources) == len(self.weights) == len(usable):
            raise ConfigError(
                f"weights={','.join(map(str, self.weights))} for sources={','.join(self.sources)}",
                "One weight above 0 for every source, in their order",
                "Write for example sources=squad,nq:90 weights=0.8,0.2",
            )
        above_zero(self, ("learning_rate", "clip_norm"))
        if self.arithmetic not in ARITHMETIC:
            raise unknown_name("arithmetic", self.arithmetic, ARITHMETIC)
