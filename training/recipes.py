"""Recipes: named functions that return a complete configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, unknown_name
from memlong.paths import is_path
from training.config import TrainConfig
from training.data.packed import require_prepared
from training.data.sources import SOURCES, counted, require_folder
from training.stages.config import StageConfig

OPEN_LLAMA = "openlm-research/open_llama_3b_v2"
SMALL_INSTRUCT = "Qwen/Qwen3-1.7B"
AnyConfig = TrainConfig | StageConfig


def mini() -> TrainConfig:
    """The bundled model on two CPU cores: questions whose passages are in memory, an hour or so."""
    return TrainConfig(
        recipe="mini",
        memory=MemoryConfig(
            preset="own",
            # All of them: in this format a bank of a 100,000-token book still stays under 1 GB.
            retrieval_layers=tuple(range(30)),
            memory_positions="before",
            relevance_strength=4.0,
            rerank_candidates=12,
            spelling_strength=4.0,
            chunk_tokens=256,
            chunk_ends="sentences",
            window_tokens=256,
            top_k=4,
            store_dtype="k8v4",
        ),
        # All articles, and of what is without end no more than keeps them half of the questions.
        sources=("squad", "chronicle:20", "qamr:16", "fairytale:20", "nq:20"),
        steps=420,
        batch_size=32,
        learning_rate=7e-4,
        warmup_steps=15,
        single_steps=20,
        warm_documents=24,
        documents_every=2,
        max_documents=114,
        unanswerable=0.12,
        arithmetic="auto",
    )


def small() -> TrainConfig:
    """The bundled model on one GPU: as mini, with larger batches, more documents and more chunks in memory."""
    return replace(
        mini(),
        recipe="small",
        sources=("squad", "chronicle", "qamr", "fairytale", "nq", "books"),
        steps=3000,
        batch_size=64,
        max_documents=600,
        max_chunks=8,
        arithmetic="bfloat16",
    )


def tiny() -> TrainConfig:
    """A few steps of everything, to see that a machine is set up: a minute."""
    return TrainConfig(
        recipe="tiny",
        memory=MemoryConfig(preset="own", chunk_tokens=64, window_tokens=64, top_k=2, store_dtype="int8"),
        sources=("qamr",),
        steps=4,
        batch_size=4,
        warm_documents=1,
        eval_every=2,
        save_every=2,
        single_steps=2,
        lora_rank=4,
        lora_alpha=4,
    )


def instruct_bundled() -> TrainConfig:
    """Questions with longer answers on the bundled model, evidence in memory, a fifth of them without an answer."""
    return replace(
        mini(),
        recipe="instruct-bundled",
        sources=("squad", "fairytale", "chronicle"),
        unanswerable=0.2,
        max_answer_tokens=96,
        learning_rate=5e-4,
    )


def instruct_qwen3() -> TrainConfig:
    """As instruct-bundled for a current small instruct model on one GPU, with its own chat template."""
    memory = MemoryConfig(
        preset="interpolated",
        memory_positions="before",
        chunk_tokens=256,
        window_tokens=256,
        top_k=4,
        store_dtype="int8",
    )
    return replace(
        instruct_bundled(),
        recipe="instruct-qwen3-1.7b",
        model=SMALL_INSTRUCT,
        memory=memory,
        learning_rate=2e-4,
        train_bias=True,
        arithmetic="bfloat16",
    )


def stage1_openllama() -> StageConfig:
    """Warm-up of OpenLLaMA-3B-v2 as in the paper: memory layer 13, a memory of 8,192 tokens; one GPU of 40 GB."""
    return StageConfig(
        recipe="stage1-openllama-3b",
        model=OPEN_LLAMA,
        memory=MemoryConfig(
            preset="paper",
            stored_layers=(13,),
            retrieval_layers=(13, 17, 21, 25),
            chunk_tokens=256,
            window_tokens=1024,
            top_k=8,
            capacity_tokens=8192,
        ),
        steps=4000,
        checkpointing=True,
        arithmetic="bfloat16",
    )


def stage2_openllama() -> StageConfig:
    """Memory training of OpenLLaMA-3B-v2 as in the paper: 32,768 tokens of memory; give start=RUN of stage 1."""
    return _second(stage1_openllama(), "stage2-openllama-3b", 32_768)


def stage2_openllama_full() -> StageConfig:
    """As stage2-openllama-3b, with the matrices of the upper layers trained in full (LoRA on the last of each only)."""
    full = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj")
    return replace(
        _second(stage1_openllama(), "stage2-openllama-3b-full", 32_768),
        full_targets=full,
        lora_targets=("down_proj",),
        learning_rate=2e-5,
    )


def stage1_bundled() -> StageConfig:
    """Language modelling with memory on the bundled model, two CPU cores: a short memory first."""
    return StageConfig(
        recipe="stage1-bundled",
        memory=MemoryConfig(preset="interpolated", chunk_tokens=256, window_tokens=512, top_k=4, capacity_tokens=4096),
        train_bias=True,
        steps=300,
        batch_size=2,
        warmup_steps=30,
        learning_rate=2e-4,
        eval_every=50,
        eval_windows=16,
        save_every=25,
    )


def stage2_bundled() -> StageConfig:
    """Language modelling with 32,768 tokens of memory on the bundled model; give start=RUN of stage 1."""
    return _second(stage1_bundled(), "stage2-bundled", 32_768)


def stage1_toy() -> StageConfig:
    """A small random model in the paper's layout: to see that a machine is set up."""
    return StageConfig(
        recipe="stage1-toy",
        model="toy",
        memory=MemoryConfig(preset="paper", chunk_tokens=32, window_tokens=64, top_k=2, capacity_tokens=256),
        lora_rank=8,
        steps=20,
        batch_size=2,
        warmup_steps=2,
        learning_rate=1e-3,
        retriever="hashing",
        eval_every=10,
        eval_windows=4,
        save_every=5,
    )


def stage2_toy() -> StageConfig:
    """As stage1-toy, with four times the memory."""
    return _second(stage1_toy(), "stage2-toy", 1024)


def _second(first: StageConfig, name: str, capacity_tokens: int) -> StageConfig:
    return replace(first, recipe=name, memory=first.memory.replace(capacity_tokens=capacity_tokens))


RECIPES: dict[str, Callable[[], AnyConfig]] = {
    "mini": mini,
    "small": small,
    "tiny": tiny,
    "instruct-bundled": instruct_bundled,
    "instruct-qwen3-1.7b": instruct_qwen3,
    "stage1-openllama-3b": stage1_openllama,
    "stage2-openllama-3b": stage2_openllama,
    "stage2-openllama-3b-full": stage2_openllama_full,
    "stage1-bundled": stage1_bundled,
    "stage2-bundled": stage2_bundled,
    "stage1-toy": stage1_toy,
    "stage2-toy": stage2_toy,
}


def recipe(name: str) -> AnyConfig:
    """Return the configuration of a recipe.

    Raises:
        ConfigError: for an unknown name, with the nearest known one.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]()


def configured(name: str, changes: Mapping[str, str]) -> AnyConfig:
    """Return a recipe with ``key=value`` texts applied, after a look at what it names.

    Raises:
        ConfigError: for an unknown recipe, setting or source, a wrong value, or a start or model that is not there.
    """
    config = recipe(name).override(changes)
    if config.start and not Path(config.start).is_dir():
        raise ConfigError(
            f"start={config.start}, which is no folder",
            "The folder of an earlier run, or of an exported checkpoint",
            "Set start to such a folder, or leave it empty",
        )
    if is_path(config.model) and not Path(config.model).is_dir():
        raise ConfigError(f"model={config.model}, which is no folder", "A folder, or a hub id", "Set model to one")
    if isinstance(config, TrainConfig):
        if not config.sources:
            raise ConfigError(
                "sources= without a name", f"Some of {', '.join(SOURCES)}", "Name one, or leave sources out"
            )
        for source in config.sources:
            counted(source)
        if config.held_out not in SOURCES:
            raise unknown_name("source", config.held_out, SOURCES)
    return config


def require_text(config: AnyConfig) -> None:
    """Refuse a run whose text is not there, before anything is loaded or made.

    Raises:
        ConfigError: for a folder of question sources. DocumentError: for one of prepared text.
    """
    if isinstance(config, StageConfig):
        require_prepared(Path(config.text))
    else:
        require_folder((*(counted(source)[0] for source in config.sources), config.held_out), Path(config.data))
