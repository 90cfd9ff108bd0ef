"""What is ours beside a model's own weights: memory settings, maps, head biases, an adapter. One folder.

``memory.json``      {"version": 1, "memory": MemoryConfig as a mapping, "base": model name, hub id, or way to a folder}
``maps.safetensors`` "weight.L" [F * sources, F], "bias.L" [F] per mapped layer L; "head_bias.L" [H] (each optional)
``adapter/``         a PEFT adapter (optional; also taken from the folder itself)
``README.md``        the model card
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from memlong.config import MemoryConfig
from memlong.errors import ModelError
from memlong.model.architecture import ModelSpec
from memlong.model.layout import MemoryLayout
from memlong.model.sources import KVMaps

VERSION = 1
BUNDLED, BUNDLED_BASE = NAMES = ("bundled", "bundled-base")  # models that are called so, wherever they lie
SETTINGS, MAPS, ADAPTER = "memory.json", "maps.safetensors", "adapter"
_HEAD_BIAS = "head_bias."


@dataclass(frozen=True)
class MemoryPart:
    """A folder of ours: where it lies, its settings, and the model that it was made for ("" when unknown).

    A base that is a folder is given with its whole path.
    """

    folder: Path
    config: MemoryConfig
    base: str = ""

    @property
    def adapter(self) -> Path | None:
        """The folder of the adapter, None without one."""
        return adapter_in(self.folder)


def adapter_in(folder: Path) -> Path | None:
    """Return the PEFT adapter in ``folder`` or its ``adapter/``; None without one."""
    for place in (folder / ADAPTER, folder):
        if (place / "adapter_config.json").is_file():
            return place
    return None


def read_part(folder: Path) -> MemoryPart | None:
    """Return the part in ``folder``; None when there is none.

    Raises:
        ModelError: for a damaged file or one of a newer version.
        ConfigError: for settings that do not exist.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text("utf-8"))
        version, memory, base = values["version"], values["memory"], str(values.get("base") or "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} cannot be read ({type(error).__name__}: {error})",
            'JSON with "version", "memory" and "base"',
            "Export the model again, or remove the file",
        ) from error
    if version != VERSION:
        raise ModelError(f"{path} has version {version}", f"Version {VERSION}", "Update this program")
    if base.startswith(".") and (folder / base).is_dir():
        base = str((folder / base).resolve())  # written as it is seen from here
    return MemoryPart(folder, MemoryConfig.from_dict(memory), base)


def write_part(
    folder: Path,
    config: MemoryConfig,
    base: str,
    maps: KVMaps | None = None,
    head_bias: Mapping[int, Tensor] | None = None,
) -> None:
    """Write settings, maps and head biases into ``folder``; an adapter and a card are the caller's.

    Args:
        base: name of the model that they are for. Of a folder the way from ``folder`` to it is written: the part will
            be loaded from other places too, and who gets it need not know where it was made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if base and base not in NAMES and Path(base).expanduser().is_dir():
        base = _way(folder.resolve(), Path(base).expanduser().resolve())
    tensors = dict(maps.state_dict()) if maps is not None else {}
    tensors |= {f"{_HEAD_BIAS}{layer}": values for layer, values in (head_bias or {}).items()}
    if tensors:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / MAPS)
    settings = {"version": VERSION, "memory": config.to_dict(), "base": base}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    if tensors:
        (folder / MAPS).chmod((folder / SETTINGS).stat().st_mode)  # safetensors lets nobody but the owner read it


def _way(folder: Path, base: Path) -> str:
    try:
        way = Path(os.path.relpath(base, folder)).as_posix()
        return way if way.startswith(".") else f"./{way}"  # a hub id begins with no dot
    except ValueError:  # on another drive
        return str(base)


def read_maps(folder: Path, layout: MemoryLayout, spec: ModelSpec) -> tuple[KVMaps | None, dict[int, Tensor] | None]:
    """Return the maps that ``layout`` needs and its retrieval layers' head biases; None for none.

    Raises:
        ModelError: when the file is damaged or was made for other layers or another model.
    """
    path = folder / MAPS
    if not path.is_file():
        return None, None
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({error})", "A safetensors file", "Export it again") from error
    named = {name: value for name, value in tensors.items() if name.startswith(_HEAD_BIAS)}
    biases = {int(name.removeprefix(_HEAD_BIAS)): value for name, value in named.items()}
    biases = {layer: bias for layer, bias in biases.items() if layer in layout.sources}
    for layer, bias in biases.items():
        if bias.shape != (spec.heads,):
            raise _foreign(path, f"head_bias.{layer} is {tuple(bias.shape)}, not ({spec.heads},)")
    if not layout.mapped_layers:
        return None, biases or None
    return _fill(KVMaps(layout, spec.kv_heads, spec.head_dim), tensors, path), biases or None


def _fill(maps: KVMaps, tensors: Mapping[str, Tensor], path: Path) -> KVMaps:
    for name, wanted in maps.state_dict().items():
        if name not in tensors:
            raise _foreign(path, f"it has no {name}")
        if tensors[name].shape != wanted.shape:
            raise _foreign(path, f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted.shape)}")
    maps.load_state_dict({name: tensors[name] for name in maps.state_dict()})
    return maps


def _foreign(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} does not fit these layers: {why}",
        "Maps fitted for this model, preset and stored layers",
        "Leave the memory settings as memory.json has them, or fit the maps again",
    )
