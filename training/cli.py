"""``python -m training list | show RECIPE | run RECIPE [key=value ...] | evaluate qa MODEL``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from memlong.errors import ConfigError, MemLongError
from training import evaluate
from training.config import TrainConfig
from training.recipes import RECIPES, recipe


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Fine-tune a model that reads its memory.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="names and purposes of the recipes")
    listing.add_argument("--json", action="store_true", help="for programs")
    for name, text in (
        ("show", "print every value of a recipe"),
        ("run", "train, or go on with a stopped run"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("recipe")
        command.add_argument("settings", nargs="*", metavar="key=value")
        if name == "run":
            command.add_argument("--out", type=Path, default=None, help="folder of the run (default: runs/RECIPE)")
    evaluate.add_arguments(commands.add_parser("evaluate", help="score a model's answers, with memory and without"))
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "list":
            purposes = {name: (made.__doc__ or "").strip().splitlines()[0] for name, made in RECIPES.items()}
            lines = [json.dumps(purposes)] if chosen.json else [f"{n:12} {text}" for n, text in purposes.items()]
            print("\n".join(lines))
            return 0
        if chosen.command == "evaluate":
            return evaluate.run(chosen)
        config = recipe(chosen.recipe).override(_pairs(chosen.settings))
        if chosen.command == "show":
            print(json.dumps(config.to_dict(), indent=1))
            return 0
        return run(config, chosen.out or Path("runs") / config.recipe)
    except MemLongError as error:
        print(error, file=sys.stderr)
        return 2


def run(config: TrainConfig, folder: Path) -> int:
    """Train (or resume) and export into ``folder / "export"``; an interrupt stops after the step at hand."""
    from memlong.retriever import make_retriever
    from training.run import build, export, watch

    model, tokenizer = load_base(config.model)
    trainer = build(config, folder, model, tokenizer, make_retriever("minilm"))
    print(f"resumed at step {trainer.step}" if trainer.resume() else "started", flush=True)
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stop.append(received))
    trainer.run(watch, stopped=lambda: bool(stop))
    export(trainer, folder / "export")
    print(f"{'stopped' if stop else 'done'} at step {trainer.step}; exported to {folder / 'export'}")
    return 0


def load_base(name: str) -> tuple[Any, Any]:
    """Return the pretrained model in float32 and its tokenizer; "bundled-base" is the bundled model's weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from memlong.model.bundled import bundled_model_folder

    where = str(bundled_model_folder(None)) if name == "bundled-base" else name
    tokenizer = AutoTokenizer.from_pretrained(where)
    return AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, use_safetensors=True), tokenizer


def _pairs(settings: list[str]) -> dict[str, str]:
    for item in settings:
        if "=" not in item:
            raise ConfigError(f"Setting {item!r}", "key=value", "Write for example steps=100")
    return dict(item.split("=", 1) for item in settings)
