"""Maps and memory biases as trained parameters: maps are fitted first, by least squares, and then trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from memlong.fit import fit_maps
from memlong.model.wrapper import MemoryModel


def with_fitted_maps(model: MemoryModel, windows: Sequence[Sequence[int]], tokens: int) -> MemoryModel:
    """Return ``model`` with maps fitted to at most ``tokens`` tokens, where its layout reads mapped K-V."""
    if not model.layout.mapped_layers:
        return model
    taken, count = [], 0
    for window in windows:
        if count >= tokens:
            break
        taken.append(list(window))
        count += len(window)
    maps, _ = fit_maps(model, taken)
    for parameter in maps.parameters():
        parameter.requires_grad_(True)
    return model.with_config(model.config, maps)


def extra_parameters(model: MemoryModel, train_bias: bool) -> dict[str, nn.Parameter]:
    """Return the trained parameters outside the model: maps, and biases b_h [H], which are put on ``model`` here."""
    found: dict[str, nn.Parameter] = {}
    if model.maps is not None and model.layout.mapped_layers:
        found |= {f"maps.{name}": parameter for name, parameter in model.maps.named_parameters()}
    if train_bias:
        bias = {
            layer: nn.Parameter(torch.zeros(model.spec.heads, device=model.device))
            for layer in model.layout.retrieval_layers
        }
        model.bias = bias
        found |= {f"head_bias.{layer}": parameter for layer, parameter in bias.items()}
    return found
