"""Checkpoints that resume exactly: weights, optimiser state and step, as safetensors and JSON, never pickled."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from memlong.errors import PersistError
from memlong.model.part import MAPS


def save(
    folder: Path,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    extra: dict[str, Any],
) -> None:
    """Write a checkpoint as :func:`write` does.

    Args:
        folder: of the checkpoint. step: steps done. parameters: by name, in the optimiser's order. extra: JSON values.
    """
    write(folder, step, parameters, flat_states(parameters, optimizer), extra)


def flat_states(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as "name|key" -> tensor; ``parameters`` are in its order."""
    names, state = list(parameters), optimizer.state_dict()["state"]
    return {f"{names[index]}|{key}": value for index, values in state.items() for key, value in values.items()}


def write(
    folder: Path, step: int, weights: Mapping[str, Tensor], states: Mapping[str, Tensor], extra: dict[str, Any]
) -> None:
    """Write a checkpoint beside the old one, then replace it: a kill leaves the old or the new one, whole.

    Args:
        weights: by name. states: of the optimiser, by "name|key".
    """
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, tensors in (("weights", weights), ("optimizer", states)):
        save_file({key: value.detach().contiguous() for key, value in tensors.items()}, fresh / f"{name}.safetensors")
    (fresh / "state.json").write_text(json.dumps({"step": step, **extra}))
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def find(folder: Path) -> Path | None:
    """Return the newest whole checkpoint: the current one, or the old one if a kill fell between the two renames."""
    for candidate in (folder, folder.with_name(folder.name + ".old")):
        if (candidate / "state.json").is_file():
            return candidate
    return None


def load(folder: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load weights and optimiser state in place and return the JSON values, ``step`` among them.

    Raises:
        PersistError: when the checkpoint holds other parameters.
    """
    weights, states, extra = read(folder, parameters)
    restore(weights, states, parameters, optimizer)
    return extra


def read(folder: Path, names: Collection[str]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Return weights, optimiser state by "name|key", and the JSON values of a checkpoint.

    Raises:
        PersistError: when it holds other parameters than ``names``.
    """
    weights = load_file(folder / "weights.safetensors")
    if set(weights) != set(names):
        raise PersistError(
            f"The checkpoint in {folder.name} has {len(weights)} tensors, the run {len(names)}, under other names",
            "A checkpoint of the same recipe and settings",
            "Start in another folder, or use the settings that the checkpoint was made with",
        )
    return weights, load_file(folder / "optimizer.safetensors"), json.loads((folder / "state.json").read_text())


def restore(
    weights: Mapping[str, Tensor],
    states: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put weights and optimiser state in place."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    index = {name: position for position, name in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in states.items():
        parameter_name, key = name.rsplit("|", 1)
        state.setdefault(index[parameter_name], {})[key] = tensor
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)


def start_from(run: Path, parameters: dict[str, nn.Parameter]) -> None:
    """Copy trained weights into ``parameters``; what was not trained before, such as a new layer, stays as it is.

    Args:
        run: folder of an earlier run, whose optimiser state is left behind, or an exported checkpoint.

    Raises:
        PersistError: when it lacks a weight of a layer that it trained, or all of them.
    """
    found = find(run / "checkpoint")
    weights = load_file(found / "weights.safetensors") if found else _exported(run)
    names = {name: name if found else _exported_name(name) for name in parameters}
    parts = {_part(name) for name in weights}
    shared = {name: saved for name, saved in names.items() if not weights or _part(saved) in parts}
    shapes = {saved: parameters[name].shape for name, saved in shared.items()}
    missing = sorted(name for name, shape in shapes.items() if name not in weights or weights[name].shape != shape)
    if missing or not shared:
        raise PersistError(
            f"{run} has no weight {[*missing, *names.values()][0]!r} of the shape that this run trains",
            "A run, or an exported checkpoint, that trained the same matrices in the same way",
            "Set start to the folder of such a run, or leave it empty",
        )
    with torch.no_grad():
        for name, saved in shared.items():
            parameters[name].copy_(weights[saved])


def _exported(folder: Path) -> dict[str, Tensor]:
    """Return an exported checkpoint's adapter, and its maps and memory biases as a run names them; {} of none."""
    adapter, extra = folder / "adapter" / "adapter_model.safetensors", folder / MAPS
    if not adapter.is_file():
        return {}
    beside = load_file(extra) if extra.is_file() else {}
    return load_file(adapter) | {
        name if name.startswith("head_bias.") else f"maps.{name}": tensor for name, tensor in beside.items()
    }


def _exported_name(name: str) -> str:
    """Return what peft calls a parameter in an adapter's file."""
    return name.replace(".modules_to_save.default.", ".").replace(".default.", ".")


def _part(name: str) -> str:
    """Return what is trained as a whole or not at all: the number of a parameter's layer, else its own name."""
    return name.partition(".layers.")[2].partition(".")[0] or name
