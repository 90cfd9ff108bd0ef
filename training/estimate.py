"""What a run will train, and take of memory and time, before anything is loaded.

The model is built without storage. Time is arithmetic: 2 operations a weight and token forward, 4 backward where
something is trained, over the speed of one product measured here; real runs reach a third to a half of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from memlong.bank.memory import in_words
from memlong.hardware import fastest_dtype, product_seconds, resolve_device
from memlong.model.estimate import pair_bytes
from memlong.model.layout import resolve_layout
from training.adapters import add_adapter, trainable
from training.base import open_base_config
from training.recipes import AnyConfig
from training.stages.build import trained_layers
from training.stages.config import StageConfig

_SIDE = 384  # of the product that is measured
_REACHED = 0.4  # of its speed


@dataclass(frozen=True)
class RunEstimate:
    """Numbers of a run.

    Attributes:
        by_layer: trained parameters of each layer. parameters: of the whole model.
        weights, optimiser, activations, bank: bytes; seconds: of the whole run.
    """

    by_layer: dict[int, int]
    parameters: int
    weights: int
    optimiser: int
    activations: int
    bank: int
    seconds: float

    @property
    def trained(self) -> int:
        """Trained parameters."""
        return sum(self.by_layer.values())

    def lines(self) -> list[str]:
        """Return the estimate for a terminal."""
        rows = [f"layer {layer:>3}  {count:>14,} trained parameters" for layer, count in self.by_layer.items()]
        total = self.weights + self.optimiser + self.activations + self.bank
        hours = self.seconds / 3600
        return [
            *rows,
            f"trained    {self.trained:>14,} of {self.parameters:,} parameters",
            f"memory     {in_words(total)}: weights {in_words(self.weights)}, trained copies, gradients and optimiser "
            f"{in_words(self.optimiser)}, activations {in_words(self.activations)}, banks {in_words(self.bank)}",
            f"time       about {f'{hours:.1f} hours' if hours >= 1 else f'{60 * hours:.0f} minutes'} on this machine",
        ]


def estimate(config: AnyConfig) -> RunEstimate:
    """Return what a run of ``config`` needs on this machine, for one process.

    Raises:
        ModelError: when the model's configuration cannot be had. ConfigError: for layers that it does not have.
    """
    from transformers import AutoModelForCausalLM

    base = open_base_config(config.model)
    text = base.get_text_config(decoder=True)
    layout = resolve_layout(config.memory, text.num_hidden_layers)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(base)
        parameters = sum(p.numel() for p in model.parameters())
        if isinstance(config, StageConfig):
            layers = trained_layers(config, layout, text.num_hidden_layers)
            adapted = add_adapter(model, config, layers, config.norms, config.full_targets)
        else:
            lowest = 0 if config.answer_from == "passages" else layout.retrieval_layers[0]
            layers = tuple(range(lowest, text.num_hidden_layers))
            adapted = add_adapter(model, config, layers)
    by_layer: dict[int, int] = {}
    for name, parameter in trainable(adapted).items():
        layer = int(name.split(".layers.")[1].split(".")[0])
        by_layer[layer] = by_layer.get(layer, 0) + parameter.numel()
    trained = sum(by_layer.values())
    device = resolve_device("auto")
    tokens, held = _tokens(config)
    width = 2 if device.type == "cuda" and config.arithmetic == "bfloat16" else 4
    quantised = isinstance(config, StageConfig) and config.quantization == "4bit"
    kept = 2 if isinstance(config, StageConfig) and config.checkpointing else 14
    activations = tokens * text.hidden_size * width * kept * len(layers) + 8 * tokens * text.vocab_size
    work = tokens * parameters * (2 + 4 * len(layers) / text.num_hidden_layers)
    speed = 2 * _SIDE**3 / product_seconds(device, fastest_dtype(device)[0])[0] * _REACHED
    accumulate = config.accumulate if isinstance(config, StageConfig) else 1
    return RunEstimate(
        by_layer,
        parameters,
        round(parameters * (0.6 if quantised else width)),
        16 * trained,
        activations,
        held * _token_bytes(text, layout.stored_layers, config.memory.store_dtype),
        config.steps * accumulate * work / speed,
    )


def _tokens(config: AnyConfig) -> tuple[int, int]:
    """Return the tokens of one forward pass, and those in all banks."""
    if isinstance(config, StageConfig):
        return config.batch_size * config.memory.window_tokens, config.batch_size * config.memory.capacity_tokens
    if config.cache:  # mapped from its files: the system may drop their pages when memory is short
        return config.batch_size * 64, 0
    documents = config.warm_documents + config.steps // max(1, config.documents_every)
    return config.batch_size * 64, documents * 8_000


def _token_bytes(text: Any, stored: tuple[int, ...], dtype: str) -> int:
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return len(stored) * heads * pair_bytes(size, dtype)
