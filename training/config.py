"""Settings of a training run: one frozen dataclass, complete, checked, JSON in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, unknown_name

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ARITHMETIC = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """Fine-tuning on questions whose passages are in memory.

    Attributes:
        recipe: name of the recipe this came from.
        model: "bundled-base" (the bundled model's pretrained weights), a folder or a hub id.
        memory: layers, chunk size and store of the memory.
        sources: names of question sources (see ``data/sources.py``), in the order they are unlocked.
        data: folder that holds the sources.
        lora_rank, lora_alpha, lora_targets: the adapter of every layer from the lowest retrieval layer up.
        learning_rate, warmup_steps, weight_decay, clip_norm: AdamW; the rate falls linearly to a tenth after warm-up.
        steps, batch_size: optimiser steps and questions of each.
        warm_documents, documents_every: documents read before the first step, and steps between two further ones.
        single_steps: first steps that see the right chunk alone. max_chunks: chunks in memory after that, at most.
        unanswerable: share of questions to which the text holds no answer, where a document has such.
        miss_rate: share of later questions that keep real retrieval even when it missed the right chunk.
        max_answer_tokens: longer answers are cut.
        eval_every, save_every: steps between evaluations and checkpoints.
        seed: of every random choice; a step's choices depend on (seed, step) alone, so a resumed run repeats them.
        threads: CPU threads.
        arithmetic: of the forward pass: float32, bfloat16 (autocast; trained weights stay float32), or "auto", which
            takes whichever multiplies faster here.
    """

    recipe: str
    model: str = "bundled-base"
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    sources: tuple[str, ...] = ("squad", "qamr")
    data: str = "../shared/data"
    lora_rank: int = 32
    lora_alpha: int = 32
    lora_targets: tuple[str, ...] = LORA_TARGETS
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    steps: int = 600
    batch_size: int = 16
    warm_documents: int = 6
    documents_every: int = 12
    single_steps: int = 80
    max_chunks: int = 4
    unanswerable: float = 0.0
    miss_rate: float = 0.05
    max_answer_tokens: int = 24
    eval_every: int = 50
    save_every: int = 25
    seed: int = 0
    threads: int = 2
    arithmetic: str = "float32"

    def __post_init__(self) -> None:
        for name in ("lora_rank", "steps", "batch_size", "max_chunks", "eval_every", "save_every", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}", "A whole number from 1", f"Raise {name}")
        if self.arithmetic not in ARITHMETIC:
            raise unknown_name("arithmetic", self.arithmetic, ARITHMETIC)
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate={self.learning_rate}", "A rate above 0", "Try 1e-3 for an adapter")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-safe values that :meth:`from_dict` takes back."""
        values = asdict(self)
        values["memory"] = self.memory.to_dict()
        return json.loads(json.dumps(values))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from plain values.

        Raises:
            ConfigError: for unknown keys, with the nearest known name.
        """
        return cls(**_checked(cls, values))

    def override(self, items: Mapping[str, str]) -> TrainConfig:
        """Return a copy with ``key=value`` texts applied; ``memory.key`` reaches the memory's settings.

        Raises:
            ConfigError: for unknown keys or values of the wrong type.
        """
        values = self.to_dict()
        for key, text in items.items():
            target, name = (values["memory"], key[7:]) if key.startswith("memory.") else (values, key)
            if name not in target or name == "memory":
                known = [*(k for k in values if k != "memory"), *(f"memory.{k}" for k in values["memory"])]
                raise unknown_name("setting", key, known)
            target[name] = _parse(key, text, target[name])
        return TrainConfig.from_dict(values)


def _checked(cls: type[TrainConfig], values: Mapping[str, Any]) -> dict[str, Any]:
    known = {item.name for item in fields(cls)}
    result = {}
    for key, value in values.items():
        if key not in known:
            raise unknown_name("setting", key, known)
        if key == "memory" and not isinstance(value, MemoryConfig):
            value = MemoryConfig.from_dict(value)
        result[key] = tuple(value) if isinstance(value, list) else value
    return result


def _parse(key: str, text: str, now: Any) -> Any:
    try:
        if isinstance(now, list):
            parts = [part for part in text.split(",") if part]
            return [int(part) for part in parts] if all(part.isdigit() for part in parts) else parts
        if isinstance(now, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(now)(text)
    except (KeyError, ValueError):
        raise ConfigError(f"{key}={text}", f"A value like {now!r}", f"Write {key}={now}") from None
