"""Low-rank updates of MiniLM (Hu et al. 2021, arXiv 2106.09685) and linear units on its states, from a file.

Shapes: E states.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from memlong.errors import RetrieverError

DOWN, UP = ".lora_A", ".lora_B"  # [rank, in] and [out, rank] of a linear layer
Unit = tuple[Tensor, Tensor]
"""Weight [outputs, E] and bias [outputs] of a linear unit, float32."""


def updated(
    encoder: nn.Module, path: Path, units: Mapping[str, int], command: str
) -> tuple[nn.Module, dict[str, Unit]]:
    """Return a copy of an encoder with the updates of a file, its embeddings shared, and the file's linear units.

    Args:
        units: name -> outputs. command: of ``training`` that writes such files, for the errors.

    Raises:
        RetrieverError: when there is no such file, or its weights are those of another model.
    """
    copied = deepcopy(encoder, {id(shared): shared for shared in [encoder.get_submodule("embeddings")]})
    weights, found = load_updates(path, command), {}
    for name, outputs in units.items():
        weight, bias = weights.pop(f"{name}.weight", None), weights.pop(f"{name}.bias", None)
        if weight is None or bias is None or len(weight) != outputs:
            raise refused_updates(path, f"no {name}.weight and {name}.bias of {outputs}", command)
        found[name] = weight.float(), bias.float()
    apply_updates(copied, weights, path, command)
    return copied, found


def apply_updates(encoder: nn.Module, weights: Mapping[str, Tensor], source: Path, command: str) -> None:
    """Add low-rank updates to linear layers, and put other weights (of norms) in place.

    Args:
        weights: NAME.lora_A and NAME.lora_B of linear layers, and whole parameters by their names.
        source, command: for the error: the file, and the training command that writes such ones.

    Raises:
        RetrieverError: for weights that do not fit the encoder.
    """
    own = dict(encoder.named_parameters())
    for name, given in weights.items():
        if name.endswith(DOWN) and name.removesuffix(DOWN) + UP in weights:
            continue
        stem, low = name.removesuffix(UP), name.endswith(UP)
        target, down = own.get(f"{stem}.weight" if low else name), weights.get(stem + DOWN) if low else None
        if target is None or (low and down is None):
            raise refused_updates(source, f"{name}, which fits nothing", command)
        update = given.float() if down is None else given.float() @ down.float()
        if update.shape != target.shape:
            found = f"{name} of the shape {list(update.shape)} for {list(target.shape)}"
            raise refused_updates(source, found, command)
        with torch.no_grad():
            target.copy_(update if down is None else target.float() + update.to(target.device))


def load_updates(path: Path, command: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        RetrieverError: when it cannot be read.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise RetrieverError(
            f"{path} could not be read ({type(error).__name__})",
            f"A safetensors file as 'python -m training {command}' writes it",
            "Fetch the project's assets again, or choose the retriever 'minilm', which takes none",
        ) from error


def refused_updates(path: Path, found: str, command: str) -> RetrieverError:
    """Return the refusal of weights that are not updates of MiniLM."""
    return RetrieverError(
        f"{path} has {found}",
        f"Updates of all-MiniLM-L6-v2 as 'python -m training {command}' writes them",
        "Train them again, or fetch the project's assets again",
    )
