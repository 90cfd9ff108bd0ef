"""Settings of a language-model stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, unknown_name
from training.config import ARITHMETIC
from training.settings import Settings, at_least_one

QUANTIZATION = ("none", "4bit")
ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class StageConfig(Settings):
    """Language modelling over long documents whose past is in memory.

    Attributes:
        recipe: name of the recipe this came from.
        model: "bundled-base", "toy" (random weights, for trying things out), a folder or a hub id.
        start: folder of an earlier run or of an exported checkpoint whose trained weights this one starts from; layers
            that were not trained there start afresh, as all do when it is empty.
        memory: layers, window, chunks, capacity and policy of every row's bank.
        text: folder made by ``python -m training prepare``.
        full_targets: matrices of these layers that are trained themselves, in place of an adapter.
        lora_rank, lora_alpha, lora_targets: the adapter of the layers above the memory layer.
        norms: whether those layers' norms are trained too.
        train_bias: whether the memory bias of every head is trained.
        fit_tokens: tokens that maps are fitted to, where the preset reads mapped K-V; the maps are then trained on.
        learning_rate, warmup_steps, weight_decay, clip_norm: AdamW; linear warm-up, then linear decay to a tenth.
        steps: optimiser steps. batch_size: rows of each process. accumulate: windows of a row in one step.
        checkpointing: compute activations again in the backward pass, to save memory.
        quantization: "none", or "4bit" base weights (QLoRA).
        retriever: embeds chunks: "auto", "minilm", "bge-m3", "hashing" or what ``make_retriever`` knows.
        eval_every, eval_windows: steps between evaluations, and windows of held-out documents in each.
        save_every: steps between checkpoints.
        seed: of the order of documents. threads: CPU threads. arithmetic: float32, bfloat16, or auto (the faster).
    """

    recipe: str
    model: str = "bundled-base"
    start: str = ""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    text: str = "data/prepared"
    full_targets: tuple[str, ...] = ()
    lora_rank: int = 64
    lora_alpha: int = 8
    lora_targets: tuple[str, ...] = ATTENTION_TARGETS
    norms: bool = True
    train_bias: bool = False
    fit_tokens: int = 25_000
    learning_rate: float = 5e-5
    warmup_steps: int = 1000
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    steps: int = 10_000
    batch_size: int = 4
    accumulate: int = 1
    checkpointing: bool = False
    quantization: str = "none"
    retriever: str = "minilm"
    eval_every: int = 500
    eval_windows: int = 32
    save_every: int = 100
    seed: int = 0
    threads: int = 2
    arithmetic: str = "auto"

    def __post_init__(self) -> None:
        counts = (
            "lora_rank",
            "steps",
            "batch_size",
            "accumulate",
            "eval_every",
            "eval_windows",
            "save_every",
            "threads",
        )
        at_least_one(self, counts)
        for name, known in (("arithmetic", ARITHMETIC), ("quantization", QUANTIZATION)):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate={self.learning_rate}", "A rate above 0", "Try 5e-5")
        if self.quantization == "4bit" and self.full_targets:
            raise ConfigError("full_targets with quantization=4bit", "4-bit weights are frozen", "Use lora_targets")
