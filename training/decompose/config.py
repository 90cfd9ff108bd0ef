"""Settings of a decomposer's training."""

from __future__ import annotations

from dataclasses import dataclass

from memlong.errors import ConfigError, unknown_name
from training.config import ARITHMETIC
from training.settings import Settings, above_zero, at_least_one


@dataclass(frozen=True)
class DecomposeConfig(Settings):
    """MiniLM with low-rank updates, trained to mark the words of a question that stand for what it does not name.

    Attributes:
        sources: whose questions take one step (those of a chronicle's two-hop questions are left out); as in
            ``data/sources.py``. data: folder that holds them.
        told, made: shares of a step's questions that take two steps: worded as those of a chronicle, and by the
            patterns of ``patterns.py``. A part of both is asked so that one step is enough.
        held_out: of ten documents of each source so many are kept out of training.
        steps, questions: optimiser steps, and questions of each.
        rank: of the updates.
        learning_rate, warmup_steps: AdamW; after warm-up the rate falls by a cosine to a fiftieth.
        clip_norm: of the gradient.
        eval_every, eval_questions: steps between measurements, and held-out questions of each kind in them.
        save_every: steps between checkpoints.
        seed: of every random choice; a step's choices depend on (seed, step) alone, so a resumed run repeats them.
        threads: CPU threads.
        arithmetic: of the forward pass: float32, bfloat16 (frozen weights too; trained ones stay float32), or "auto",
            which takes whichever multiplies faster here.
    """

    sources: tuple[str, ...] = ("chronicle:40", "squad", "fairytale", "nq", "qamr")
    data: str = "../shared/data"
    told: float = 0.25
    made: float = 0.25
    held_out: int = 1
    steps: int = 600
    questions: int = 64
    rank: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 30
    clip_norm: float = 1.0
    eval_every: int = 100
    eval_questions: int = 400
    save_every: int = 50
    seed: int = 0
    threads: int = 2
    arithmetic: str = "auto"

    def __post_init__(self) -> None:
        counts = ("steps", "questions", "rank", "warmup_steps", "eval_every", "eval_questions", "save_every", "threads")
        at_least_one(self, counts)
        if not 1 <= self.held_out <= 9:
            raise ConfigError(f"held_out={self.held_out}", "1 to 9 documents of ten", "Write held_out=1")
        if not self.sources:
            raise ConfigError("No source", "One whose questions take one step, or more", "Write sources=chronicle:40")
        if not (self.told >= 0 and self.made >= 0 and self.told + self.made < 1):
            given = f"told={self.told} made={self.made}"
            raise ConfigError(given, "Shares of 0 or more, together below 1", "Write told=0.25 made=0.25")
        above_zero(self, ("learning_rate", "clip_norm"))
        if self.arithmetic not in ARITHMETIC:
            raise unknown_name("arithmetic", self.arithmetic, ARITHMETIC)
