"""Put a language-model stage together, and say which layers it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from memlong.model.layout import MemoryLayout
from memlong.model.wrapper import MemoryModel
from training import checkpoint
from training.adapters import add_adapter, trainable
from training.data.packed import PackedText
from training.fitting import extra_parameters, with_fitted_maps
from training.stages.config import StageConfig
from training.stages.trainer import Parts, StageTrainer


def trained_layers(config: StageConfig, layout: MemoryLayout, layers: int) -> tuple[int, ...]:
    """Return the layers that are trained: from the lowest retrieval layer up; the paper's memory layer is frozen."""
    lowest = layout.retrieval_layers[0]
    above = config.memory.preset == "paper" and lowest in layout.stored_layers
    return tuple(range(lowest + 1 if above else lowest, layers))


def build(config: StageConfig, folder: Path, model: Any, tokenizer: Any, retriever: Any) -> StageTrainer:
    """Return a trainer for ``config`` on a plain causal language model.

    Raises:
        DocumentError: when the text is not prepared. PersistError: when ``start`` holds other weights.
    """
    torch.set_num_threads(config.threads)
    size = config.memory.window_tokens
    text, held_out = (PackedText(Path(config.text), split, size) for split in ("train", "eval"))
    plain = MemoryModel(model, tokenizer, config.memory)
    first = [text.window(d, w).tolist() for d, n in enumerate(text.windows()[:256]) for w in range(min(n, 4))]
    plain = with_fitted_maps(plain, first, config.fit_tokens)
    layers = trained_layers(config, plain.layout, plain.spec.layers)
    adapted = add_adapter(model, config, layers, config.norms, config.full_targets)
    trained = MemoryModel(adapted, tokenizer, config.memory, plain.maps)
    parameters = trainable(adapted) | extra_parameters(trained, config.train_bias)
    if config.start:
        checkpoint.start_from(Path(config.start), parameters)
    return StageTrainer(config, Parts(trained, parameters, text, held_out, retriever), folder)
