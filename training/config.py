"""Settings of a training run: one frozen dataclass, complete, checked, JSON in and out."""

from __future__ import annotations

from dataclasses import dataclass, field

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, unknown_name
from training.settings import Settings, at_least_one

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ARITHMETIC = ("auto", "float32", "bfloat16")
ANSWER_FROM = ("memory", "passages")


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Fine-tuning on questions whose passages are in memory.

    Attributes:
        recipe: name of the recipe this came from.
        start: folder of an earlier run or of an exported checkpoint whose trained weights this one starts from; layers
            that were not trained there start afresh, as all do when it is empty.
        model: "bundled-base" (the bundled model's pretrained weights), a folder or a hub id.
        memory: layers, chunk size and store of the memory.
        sources: names of question sources (see ``data/sources.py``), in the order they are unlocked; "chronicle:20"
            uses 20 documents of it at most.
        held_out: source that the run is judged by. data: folder that holds the sources.
        retriever: by name; ranks the chunks that a question finds beside the right one.
        answer_from: "memory", or "passages" for the usual way to compare with: the text of the same chunks stands in
            the prompt, nothing is stored, and every layer is trained.
        lora_rank, lora_alpha, lora_targets: the adapter of every layer from the lowest retrieval layer up.
        learning_rate, warmup_steps, weight_decay, clip_norm: AdamW; the rate falls linearly to a tenth after warm-up.
        steps, batch_size: optimiser steps and questions of each.
        warm_documents, documents_every: documents read before the first step, and steps between two further ones.
        max_documents: documents used at most, however long the run.
        single_steps: first steps that see the right chunk alone. max_chunks: chunks in memory after that, at most.
        unanswerable: share of questions to which the text holds no answer, where a document has such.
        miss_rate: share of later questions that keep real retrieval even when it missed the right chunk.
        max_answer_tokens: longer answers are cut.
        cache: folder in which stored K-V of documents are kept, so that no run reads them twice; empty keeps none.
        text_weight: of a token of plain text (source "books") beside a token of an answer.
        focus_weight: of a second loss, -log of the share of the attention to memory that falls on the evidence when the
            first tokens of an answer are written (``focus.py``); 0 asks for none.
        focus_layers: retrieval layers that it asks; empty asks all.
        sorted_steps: steps whose questions are drawn together and shared out by length, so that little is padded.
        eval_every, save_every: steps between evaluations and checkpoints.
        seed: of every random choice; a step's choices depend on (seed, step) alone, so a resumed run repeats them.
        threads: CPU threads.
        arithmetic: of the forward pass: float32, bfloat16 (autocast; trained weights stay float32), or "auto", which
            takes whichever multiplies faster here.
        fit_tokens: tokens of the first documents that maps are fitted to, where the preset reads mapped K-V.
        train_bias: whether the memory bias of every head is trained.
    """

    recipe: str
    start: str = ""
    model: str = "bundled-base"
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    sources: tuple[str, ...] = ("squad", "qamr")
    held_out: str = "squad-eval"
    data: str = "../shared/data"
    retriever: str = "hybrid"
    answer_from: str = "memory"
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
    max_documents: int = 240
    single_steps: int = 80
    max_chunks: int = 4
    unanswerable: float = 0.0
    miss_rate: float = 0.05
    max_answer_tokens: int = 24
    text_weight: float = 0.2
    focus_weight: float = 0.0
    focus_layers: tuple[int, ...] = ()
    cache: str = ""
    sorted_steps: int = 4
    eval_every: int = 50
    save_every: int = 25
    seed: int = 0
    threads: int = 2
    arithmetic: str = "float32"
    fit_tokens: int = 25_000
    train_bias: bool = False

    def __post_init__(self) -> None:
        counts = ("lora_rank", "steps", "batch_size", "max_chunks", "eval_every", "save_every", "threads")
        at_least_one(self, (*counts, "max_documents", "sorted_steps"))
        if self.answer_from not in ANSWER_FROM:
            raise unknown_name("answer_from", self.answer_from, ANSWER_FROM)
        if self.arithmetic not in ARITHMETIC:
            raise unknown_name("arithmetic", self.arithmetic, ARITHMETIC)
        if self.focus_weight < 0:
            raise ConfigError(f"focus_weight={self.focus_weight}", "A number from 0", "Try 0.3")
        if self.focus_weight and self.answer_from != "memory":
            given = f"focus_weight={self.focus_weight} with answer_from={self.answer_from}"
            raise ConfigError(given, "Attention to memory, which only answer_from=memory has", "Set focus_weight=0")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate={self.learning_rate}", "A rate above 0", "Try 1e-3 for an adapter")
