"""Recipes: named functions that return a complete configuration."""

from __future__ import annotations

from collections.abc import Callable

from memlong.config import MemoryConfig
from memlong.errors import unknown_name
from training.config import TrainConfig


def mini() -> TrainConfig:
    """The bundled model on two CPU cores: questions whose passages are in memory, an hour or so."""
    return TrainConfig(
        recipe="mini",
        memory=MemoryConfig(preset="own", chunk_tokens=256, window_tokens=256, top_k=4, store_dtype="int8"),
        sources=("squad", "qamr", "fairytale", "chronicle", "nq"),
        steps=1100,
        batch_size=16,
        documents_every=10,
        unanswerable=0.1,
        arithmetic="auto",
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


RECIPES: dict[str, Callable[[], TrainConfig]] = {"mini": mini, "tiny": tiny}


def recipe(name: str) -> TrainConfig:
    """Return the configuration of a recipe.

    Raises:
        ConfigError: for an unknown name, with the nearest known one.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]()
