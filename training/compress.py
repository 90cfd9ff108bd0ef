"""A smaller adapter: of each layer's low-rank update, the directions that change its outputs most.

A layer with inputs x and the update B A gives B A x more than without. Of all updates of rank k, the truncated
singular value decomposition of B A C^(1/2), C = E[x x^T], changes that least (Wang et al. 2024, SVD-LLM, arXiv
2403.07378, whiten whole matrices so). Each direction's singular value squared is what leaving it out costs; over the
layer's own squared outputs, and per byte, that says which directions of all layers are kept.

Inputs are those of answers from memory, since nothing else is ever read with the adapter.

Shapes: R rank, I inputs and O outputs of a layer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from memlong.config import AskOptions
from memlong.errors import ConfigError, PersistError
from memlong.model.adapter import WEIGHTS
from memlong.model.part import MemoryPart, write_part
from memlong.session.session import Session
from training.data.questions import Document
from training.merging import exported

_WRAPPED = "base_model.model."  # what peft puts before the names of layers
DOWN, UP, CONFIG = ".lora_A.weight", ".lora_B.weight", "adapter_config.json"
_BYTES = 2  # of a number in bfloat16
_ROWS = 256  # tokens whose products are summed at once: of one token alone they cost more than the layer
_RIDGE = 1e-4  # of the mean second moment: inputs that the questions never gave may yet come


class Update(NamedTuple):
    """Low-rank update of a layer: W' = W + up @ down."""

    down_RI: Tensor
    up_OR: Tensor


@dataclass
class Moments:
    """Second moments of a layer's inputs, and its squared outputs, summed over tokens."""

    inputs_II: Tensor
    outputs: float

    def add(self, other: Moments) -> None:
        """Count in what was seen elsewhere."""
        self.inputs_II += other.inputs_II
        self.outputs += other.outputs


@contextmanager
def collected(model: nn.Module) -> Iterator[dict[str, Moments]]:
    """Collect the moments of the linear layers of ``model`` while the block runs, by their names without an adapter.

    They are complete when the block has ended.
    """
    found: dict[str, Moments] = {}
    waiting: dict[str, list[Tensor]] = {}

    def count(name: str) -> None:
        x_NI = torch.cat(waiting.pop(name))
        found[name].inputs_II += x_NI.T @ x_NI

    def collect(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            x_NI = given[0].detach().float().flatten(0, -2)
            known = found.setdefault(name, Moments(x_NI.new_zeros(x_NI.shape[1], x_NI.shape[1]), 0.0))
            known.outputs += float(output.detach().float().square().sum())
            rows = waiting.setdefault(name, [])
            rows.append(x_NI)
            if sum(map(len, rows)) >= _ROWS:
                count(name)

        return hook

    hooks = [
        module.register_forward_hook(collect(name.removeprefix(_WRAPPED).removesuffix(".base_layer")))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
    for name in [*waiting]:
        count(name)


def compress(updates: Mapping[str, Update], moments: Mapping[str, Moments], room: int) -> dict[str, Update]:
    """Return the updates in at most ``room`` bytes of bfloat16 numbers, one direction of each at least.

    Args:
        updates, moments: by the same names.

    Raises:
        ConfigError: when ``room`` is too small for one direction of each.
    """
    least = sum(_BYTES * (len(each.up_OR) + each.down_RI.shape[1]) for each in updates.values())
    if room < least:
        raise ConfigError(
            f"{room} bytes for {len(updates)} updates",
            f"At least {least}, one direction of each",
            "Set more megabytes",
        )
    apart = {name: _directions(update, moments[name].inputs_II) for name, update in updates.items()}
    worth = sorted(
        (
            (float(value) ** 2 / moments[name].outputs / (len(up) + down.shape[1]), name, number)
            for name, (down, up, values) in apart.items()
            for number, value in enumerate(values)
            if number
        ),
        reverse=True,
    )
    kept = dict.fromkeys(updates, 1)
    for _, name, _ in worth:
        down, up, _values = apart[name]
        least += _BYTES * (len(up) + down.shape[1])
        if least > room:
            break
        kept[name] += 1
    return {name: Update(down[: kept[name]], up[:, : kept[name]]) for name, (down, up, _) in apart.items()}


def _directions(update: Update, inputs_II: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return an update taken apart: down [R, I], up [O, R], and how much each direction changes the outputs, [R]."""
    size = len(inputs_II)
    ridge = _RIDGE * inputs_II.diagonal().mean().clamp_min(1e-12)
    root_II = torch.linalg.cholesky(inputs_II + ridge * torch.eye(size, device=inputs_II.device))  # C = L L^T
    basis_OR, small_RR = torch.linalg.qr(update.up_OR.float())
    left_RR, values_R, right_RI = torch.linalg.svd(small_RR @ (update.down_RI.float() @ root_II), full_matrices=False)
    down_RI = torch.linalg.solve_triangular(root_II, right_RI, upper=False, left=False)  # right @ L^-1
    root_R = values_R.sqrt()
    return root_R[:, None] * down_RI, basis_OR @ left_RR * root_R, values_R


def moments_of(
    session: Session, documents: Iterable[Document], questions: int, say: Callable[[str], None]
) -> dict[str, Moments]:
    """Return the moments of the layers while questions on documents are answered from memory.

    Args:
        session: its model answers with the adapter. questions: asked of each document. say: told of each document.
    """
    options = AskOptions(answer_from="memory", record_attention=False, history=0, max_tokens=32)
    total: dict[str, Moments] = {}
    for doc_id, text, asked in documents:
        say(f"asking {min(questions, len(asked))} questions on {doc_id}")
        read = session.read(text, title=doc_id)
        with collected(session.model.model) as found:  # reading is without the adapter, and does not count
            for question in islice(asked, questions):
                session.ask(question.question, options)
        session.remove_document(read.doc_id)
        for name, each in found.items():
            if name in total:
                total[name].add(each)
            else:
                total[name] = each
    return total


def require_adapter(run: Path, out: Path) -> MemoryPart:
    """Return what a run, its ``export/`` or a folder like it holds.

    Raises:
        PersistError: when there is no adapter, or one with more than low-rank updates; when ``out`` is taken.
    """
    part, adapter = exported(run, out)
    config = json.loads((adapter / CONFIG).read_text("utf-8"))
    if config.get("use_dora") or config.get("use_rslora"):
        raise PersistError(f"{adapter} has scaled updates", "W' = W + (alpha / r) B A", "Take another adapter")
    return part


def write_compressed(part: MemoryPart, moments: Mapping[str, Moments], megabytes: float, out: Path) -> Path:
    """Write a part with its adapter's updates in at most so many megabytes (10^6 bytes); return the new weights.

    Raises:
        ConfigError: when the room is too small.
    """
    adapter = part.adapter
    assert adapter is not None
    weights, config = load_file(adapter / WEIGHTS), json.loads((adapter / CONFIG).read_text("utf-8"))
    layers = {name.removesuffix(DOWN): _layer(name) for name in weights if name.endswith(DOWN)}
    updates = {
        layer: Update(weights.pop(name + DOWN), _scale(config, layer) * weights.pop(name + UP))
        for name, layer in layers.items()
    }
    small = compress(updates, moments, int(megabytes * 1e6))
    for name, layer in layers.items():
        weights[name + DOWN], weights[name + UP] = (each.bfloat16().contiguous() for each in small[layer])
    ranks = {layer: len(update.down_RI) for layer, update in small.items()}
    config |= {"rank_pattern": ranks, "alpha_pattern": ranks}  # alpha / r is in the updates
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(part.folder, fresh)
    write_part(fresh, part.config, part.base)  # the way to a base that is a folder may be another one
    folder = fresh / adapter.relative_to(part.folder)
    save_file(weights, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors lets nobody but the owner read
    if out.exists():
        out.rmdir()
    fresh.rename(out)
    return out / folder.relative_to(fresh) / WEIGHTS


def _layer(name: str) -> str:
    return name.removeprefix(_WRAPPED).removesuffix(DOWN)


def _scale(config: Mapping[str, Any], layer: str) -> float:
    """Return alpha / r of a layer's update."""
    alpha = (config.get("alpha_pattern") or {}).get(layer, config["lora_alpha"])
    return float(alpha) / float((config.get("rank_pattern") or {}).get(layer, config["r"]))


def export_compressed(
    run: Path, out: Path, megabytes: float, documents: Iterable[Document], questions: int, say: Callable[[str], None]
) -> None:
    """Write a run's export with a smaller adapter into ``out``, after questions on documents were asked of it.

    Raises:
        MemLongError: see :func:`require_adapter` and :func:`write_compressed`.
    """
    part = require_adapter(run, out)
    from memlong.model.load import load_model
    from training.base import load_retriever

    session = Session(load_model(part.folder), load_retriever("auto"))
    moments = moments_of(session, documents, questions, say)
    written = write_compressed(part, moments, megabytes, out)
    say(f"the adapter has {written.stat().st_size:,} bytes in {written}")
