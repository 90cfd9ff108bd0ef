"""What a recipe leaves to the machine, settled once a run: a resumed run must not choose again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from training import checkpoint
from training.decompose.config import DecomposeConfig
from training.loop import in_bfloat16
from training.rank.config import RankConfig
from training.recipes import AnyConfig

Config = TypeVar("Config", bound=AnyConfig | RankConfig | DecomposeConfig)


def settled(config: Config, folder: Path, device: torch.device) -> Config:
    """Return ``config`` with "auto" arithmetic replaced by what the run in ``folder`` began with, or the faster."""
    if config.arithmetic != "auto":
        return config
    found = checkpoint.find(folder / "checkpoint")
    begun = json.loads((found / "state.json").read_text())["config"]["arithmetic"] if found else "auto"
    return replace(config, arithmetic="bfloat16" if in_bfloat16(begun, device) else "float32")
