"""One checkpoint out of a model and its adapter, for programs that know nothing of adapters.

Memory is written by the original weights. So merging is possible only where nothing that was trained takes part in
writing: every trained layer lies above the highest stored one (presets ``paper`` and ``projected``). Elsewhere the
original upper layers would be lost, and with them the K-V that training read.
"""

from __future__ import annotations

import json
from pathlib import Path

from memlong.errors import ConfigError, PersistError
from memlong.model.architecture import inspect
from memlong.model.layout import MemoryLayout, resolve_layout
from memlong.model.part import ADAPTER, MemoryPart, adapter_in, read_maps, read_part, write_part
from memlong.quiet import quiet
from training.base import load_base, open_base_config


def merge(run: Path, out: Path) -> None:
    """Write the merged model of a run (or of its ``export/``), tokenizer and memory settings into ``out``.

    Raises:
        PersistError: when there is no export, or ``out`` is taken. ConfigError: when trained layers write memory.
    """
    part, adapter = exported(run, out)
    base = open_base_config(_base(part))
    layout = resolve_layout(part.config, base.get_text_config(decoder=True).num_hidden_layers)
    refuse_writers(layout, adapter)
    _write(part, adapter, layout, out)


def exported(run: Path, out: Path) -> tuple[MemoryPart, Path]:
    """Return what a run (or its ``export/``) gave, and the adapter in it, when it may be written anew into ``out``.

    Raises:
        PersistError: when there is no export, or ``out`` is taken.
    """
    part = next((found for folder in (run / "export", run) if (found := read_part(folder))), None)
    adapter = adapter_in(part.folder) if part else None
    if part is None or adapter is None:
        raise PersistError(
            f"{run} holds no {ADAPTER} with a memory.json beside it",
            "The folder of a run, or its export/",
            "Run a recipe first, to the end or to a stop by Ctrl-C",
        )
    if out.exists() and any(out.iterdir()):
        raise PersistError(f"The folder {out} is not empty", "A new folder", "Choose another one, or remove it")
    return part, adapter


def refuse_writers(layout: MemoryLayout, adapter: Path) -> None:
    """Raise ConfigError when an adapter changes a layer that takes part in writing memory."""
    trained = json.loads((adapter / "adapter_config.json").read_text("utf-8")).get("layers_to_transform") or [0]
    if min(trained) <= layout.stored_layers[-1]:
        raise ConfigError(
            f"Layers from {min(trained)} up are trained, and layer {layout.stored_layers[-1]} is stored",
            "Merging where all trained layers lie above the stored ones (presets paper and projected)",
            "Use the export/ as it is: memory is written by the original weights, which merging would replace",
        )


def _base(part: MemoryPart) -> str:
    """Return the name of the model below an adapter; one without a name lies beside it, as the toy does."""
    return part.base or str(part.folder)


def _write(part: MemoryPart, adapter: Path, layout: MemoryLayout, out: Path) -> None:
    with quiet():
        from peft import PeftModel  # whose relatives talk while they are imported

    plain, tokenizer = load_base(_base(part))
    maps, bias = read_maps(part.folder, layout, inspect(plain))
    kept = getattr(open_base_config(_base(part)), "dtype", None)
    fresh = out.with_name(out.name + ".new")
    with quiet():
        merged = PeftModel.from_pretrained(plain, str(adapter)).merge_and_unload(safe_merge=True)
        (merged.to(kept) if kept is not None else merged).save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    write_part(fresh, part.config, "", maps, bias)
    card = part.folder / "README.md"
    if card.is_file():
        (fresh / "README.md").write_text(
            card.read_text("utf-8") + "\nThe adapter is merged into the weights.\n", "utf-8"
        )
    if out.exists():
        out.rmdir()
    fresh.rename(out)
