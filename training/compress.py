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
from memlong.files import MANIFEST, whole_folder
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


@contextmanager
def collecting(model: nn.Module, found: dict[str, Moments]) -> Iterator[None]:
    """Add the moments of the linear layers of ``model`` while the block runs, by their names without an adapter.

    They are complete when the block has ended.
    """
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
        yield
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
    taken = refuse_little_room(updates, room)
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
        taken += _BYTES * (len(up) + down.shape[1])
        if taken > room:
            break
        kept[name] += 1
    return {name: Update(down[: kept[name]], up[:, : kept[name]]) for name, (down, up, _) in apart.items()}


def refuse_little_room(updates: Mapping[str, Update], room: int) -> int:
    """Return the bytes of one direction of each update.

    Raises:
        ConfigError: when ``room`` is less.
    """
    least = sum(_BYTES * (len(each.up_OR) + each.down_RI.shape[1]) for each in updates.values())
    if room < least:
        raise ConfigError(
            f"{room / 1e6:g} megabytes for {len(updates)} updates",
            f"At least {least / 1e6:g}, one direction of each",
            "Set more megabytes",
        )
    return least


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
    found: dict[str, Moments] = {}
    for doc_id, text, asked in documents:
        say(f"asking {min(questions, len(asked))} questions on {doc_id}")
        read = session.read(text, title=doc_id)
        with collecting(session.model.model, found):  # reading is without the adapter, and does not count
            for question in islice(asked, questions):
                session.ask(question.question, options)
        session.remove_document(read.doc_id)
    return found


@dataclass(frozen=True)
class Adapter:
    """What a run exported: its part, the adapter's settings, its updates by layer, and whatever else it holds."""

    part: MemoryPart
    config: Mapping[str, Any]
    updates: Mapping[str, Update]
    others: Mapping[str, Tensor]


def read_adapter(run: Path, out: Path) -> Adapter:
    """Return the adapter of a run, its ``export/`` or a folder like it.

    Raises:
        PersistError: when there is none, or one with more than low-rank updates; when ``out`` is taken.
    """
    part, folder = exported(run, out)
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    if config.get("use_dora") or config.get("use_rslora"):
        raise PersistError(f"{folder} has scaled updates", "W' = W + (alpha / r) B A", "Take another adapter")
    weights = load_file(folder / WEIGHTS)
    layers = [name.removeprefix(_WRAPPED).removesuffix(DOWN) for name in weights if name.endswith(DOWN)]
    updates = {
        layer: Update(weights.pop(_WRAPPED + layer + DOWN), _scale(config, layer) * weights.pop(_WRAPPED + layer + UP))
        for layer in layers
    }
    return Adapter(part, config, updates, weights)


def write_compressed(adapter: Adapter, moments: Mapping[str, Moments], megabytes: float, out: Path) -> Path:
    """Write what a run exported with its updates in at most so many megabytes (10^6 bytes); return the new weights.

    Raises:
        ConfigError: when the room is too small.
    """
    small = compress(adapter.updates, moments, int(megabytes * 1e6))
    weights = dict(adapter.others)
    for layer, update in small.items():
        weights[_WRAPPED + layer + DOWN] = update.down_RI.bfloat16().contiguous()
        weights[_WRAPPED + layer + UP] = update.up_OR.bfloat16().contiguous()
    ranks = {layer: len(update.down_RI) for layer, update in small.items()}
    part = adapter.part
    inside = part.adapter.relative_to(part.folder) if part.adapter else Path()
    with whole_folder(out) as fresh:
        shutil.copytree(part.folder, fresh, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
        write_part(fresh, part.config, part.base)  # the way to a base that is a folder may be another one
        save_file(weights, fresh / inside / WEIGHTS)
        # alpha / r is in the updates.
        config = {**adapter.config, "rank_pattern": ranks, "alpha_pattern": ranks}
        (fresh / inside / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return out / inside / WEIGHTS


def _scale(config: Mapping[str, Any], layer: str) -> float:
    """Return alpha / r of a layer's update."""
    alpha = (config.get("alpha_pattern") or {}).get(layer, config["lora_alpha"])
    return float(alpha) / float((config.get("rank_pattern") or {}).get(layer, config["r"]))


def export_compressed(
    adapter: Adapter,
    out: Path,
    megabytes: float,
    documents: Iterable[Document],
    questions: int,
    say: Callable[[str], None],
) -> None:
    """Write what a run exported with a smaller adapter into ``out``, after questions on documents were asked of it.

    Raises:
        MemLongError: see :func:`write_compressed`; a room that is too small is refused before anything is loaded.
    """
    refuse_little_room(adapter.updates, int(megabytes * 1e6))
    from memlong.model.load import load_model
    from training.base import load_retriever

    session = Session(load_model(adapter.part.folder), load_retriever("auto"))
    moments = moments_of(session, documents, questions, say)
    if not moments:
        raise ConfigError("Sources without a question", "One question at least", "Choose others")
    written = write_compressed(adapter, moments, megabytes, out)
    say(f"the adapter has {written.stat().st_size:,} bytes in {written}")
