"""From a model's name to the place of its weights, and to our part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlong.errors import ModelError
from memlong.model.bundled import bundled_model_folder
from memlong.model.part import BUNDLED, BUNDLED_BASE, NAMES, SETTINGS, MemoryPart, adapter_in, read_part
from memlong.model.refusals import refusals, refuse_config
from memlong.paths import data_dir as default_data_dir
from memlong.paths import is_path
from memlong.quiet import quiet

# Our part of the bundled model travels with the source, its weights do not.
BUNDLED_PART = Path(__file__).resolve().parents[2] / "assets" / "bundled"

EXPORT = "export"  # in the folder of a training run, what it made

Progress = Callable[[float, str], None]  # share done (0 to 1), what is being done


@dataclass(frozen=True)
class Located:
    """Where a model is.

    Attributes:
        name: as a person knows it. weights: folder or hub id. part: our part; None for a plain model.
        adapter: folder of a PEFT adapter that belongs to it; None without one.
    """

    name: str
    weights: str
    part: MemoryPart | None = None
    adapter: Path | None = None


def locate(name: str, data_dir: Path | None = None, progress: Progress | None = None) -> Located:
    """Return where the weights, the memory settings and the adapter of ``name`` are.

    Args:
        name: "bundled", "bundled-base" (its weights without our part), a folder (of a model, of an adapter,
            or
            exported by training), or a hub id.
        data_dir: the data folder; looked at before the hub.

    Raises:
        ModelError: for a folder that is not there or holds no model.
    """
    if name in NAMES:
        part = read_part(BUNDLED_PART) if name == BUNDLED else None
        weights = str(bundled_model_folder(data_dir, progress))
        return Located(name, weights, part, part.adapter if part else None)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _in_folder(name, folder, data_dir, progress)
    if is_path(name) or folder.is_file():
        given = f"{name!r} is a file" if folder.is_file() else f"There is no folder {name!r}"
        raise ModelError(given, "A folder, a hub id or 'bundled'", "Name the folder that holds the weights")
    kept = (data_dir or default_data_dir()) / "models" / name.rpartition("/")[2]
    if (kept / "config.json").is_file():
        return Located(name, str(kept), read_part(kept), adapter_in(kept))
    return Located(name, name)


def open_config(found: Located) -> Any:
    """Return the transformers configuration of a located model.

    Raises:
        ModelError: when it cannot be had, or is not of a causal language model.
    """
    from transformers import AutoConfig

    with quiet(), refusals(found.weights):
        config = AutoConfig.from_pretrained(found.weights, trust_remote_code=False)
    refuse_config(found.name, config)
    return config


def _in_folder(name: str, folder: Path, data_dir: Path | None, progress: Progress | None) -> Located:
    part, adapter = read_part(folder), adapter_in(folder)
    if (folder / "config.json").is_file():
        beside = part or read_part(folder.parent)
        return Located(name, str(folder), beside, adapter or (beside.adapter if beside else None))
    base = (part.base if part else "") or _adapters_base(adapter)
    if not base or base == name or Path(base) == folder.resolve():
        exported = (folder / EXPORT / "memory.json").is_file()
        raise ModelError(
            f"The folder {name!r} holds no model: no config.json, and no base model is named",
            "A model's folder, or an adapter or memory.json that names its base model",
            f"Name {str(folder / EXPORT)!r}, where training has put what it made"
            if exported
            else "Check the path, or write the base model's id into memory.json",
        )
    if is_path(base) and not Path(base).expanduser().exists():
        where = SETTINGS if part and part.base else "adapter_config.json"
        raise ModelError(
            f"The folder {name!r} is for the model in {base!r}, which is not there",
            "The model that it was made for",
            f"Put it there, or write where it is, or its hub id, into {where}",
        )
    # The base's own part, should it have one, gives way: the one asked for was trained in its place.
    below = locate(BUNDLED_BASE if base == BUNDLED else base, data_dir, progress)
    return Located(name, below.weights, part or below.part, adapter)


def _adapters_base(adapter: Path | None) -> str:
    if adapter is None:
        return ""
    with quiet():
        from peft import PeftConfig  # whose relatives talk while they are imported

    return str(PeftConfig.from_pretrained(str(adapter)).base_model_name_or_path or "")
