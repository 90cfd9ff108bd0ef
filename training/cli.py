"""``python -m training``: recipes listed, shown and run; prepare, evaluate, export, push; rank, decompose, point."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from memlong.errors import ConfigError, MemLongError
from training import evaluate
from training.data import prepare_cli
from training.decompose import cli as decompose_cli
from training.evaluate.common import STOPPED
from training.point import cli as point_cli
from training.rank import cli as rank_cli
from training.recipes import RECIPES, AnyConfig, configured, require_text
from training.settings import assignments
from training.stages.config import StageConfig


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    chosen = _parsed(arguments)
    try:
        if chosen.command == "list":
            purposes = {name: (made.__doc__ or "").strip().splitlines()[0] for name, made in RECIPES.items()}
            lines = [json.dumps(purposes)] if chosen.json else [f"{n:24} {text}" for n, text in purposes.items()]
            print("\n".join(lines))
            return 0
        if chosen.command == "evaluate":
            return evaluate.run(chosen)
        if chosen.command == "prepare":
            return prepare_cli.run(chosen)
        if chosen.command == "rank":
            return rank_cli.run(chosen)
        if chosen.command == "decompose":
            return decompose_cli.run(chosen)
        if chosen.command == "point":
            return point_cli.run(chosen)
        if chosen.command == "push":
            return push(chosen.folder, chosen.repository)
        if chosen.command == "export":
            return export(chosen)
        config = configured(chosen.recipe, assignments(chosen.settings))
        if chosen.command == "show":
            print(json.dumps(config.to_dict(), indent=1))
            return 0
        if chosen.command == "estimate":
            from training.estimate import estimate

            print("\n".join(estimate(config).lines()))
            return 0
        return run(config, chosen.out or Path("runs") / config.recipe)
    except MemLongError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nStopped. What was finished is kept: the same command goes on with prepare, run, rank, decompose, point.",
            file=sys.stderr,
        )
        return STOPPED


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Return what was asked for; argparse takes all settings in one place only, so later ones are joined here."""
    parser = _parser()
    chosen, left = parser.parse_known_args(arguments)
    unknown = [item for item in left if item.startswith("-") or not hasattr(chosen, "settings")]
    if unknown:
        parser.error(f"unknown option: {' '.join(unknown)} (see python -m training {chosen.command} --help)")
    if left:
        chosen.settings = [*chosen.settings, *left]
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Fine-tune a model that reads its memory.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="names and purposes of the recipes")
    listing.add_argument("--json", action="store_true", help="for programs")
    for name, text in (
        ("show", "print every value of a recipe"),
        ("estimate", "trained parameters, memory and time, before anything is loaded"),
        ("run", "train, or go on with a stopped run"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("recipe")
        command.add_argument("settings", nargs="*", metavar="key=value", help="any value of the recipe, changed")
        if name == "run":
            command.add_argument("--out", type=Path, default=None, help="folder of the run (default: runs/RECIPE)")
        if name == "show":
            command.add_argument("--json", action="store_true", help="for programs (it always is JSON)")
    prepare_cli.add_arguments(commands.add_parser("prepare", help="clean, tokenise and pack text"))
    rank_cli.add_arguments(commands.add_parser("rank", help="train what reads questions beside parts of chunks"))
    decompose_cli.add_arguments(commands.add_parser("decompose", help="train what takes a question apart"))
    point_cli.add_arguments(commands.add_parser("point", help="train what points at an answer's words"))
    evaluate.add_arguments(commands.add_parser("evaluate", help="score a model's answers, with memory and without"))
    exporting = commands.add_parser("export", help="merge a run's adapter into its model, or make it smaller")
    exporting.add_argument("run", type=Path, help="folder of a run, or its export/")
    kinds = exporting.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--merged", type=Path, metavar="FOLDER", help="new folder of the whole model, where possible")
    kinds.add_argument(
        "--compressed", type=Path, metavar="FOLDER", help="new folder of the same with less in its adapter"
    )
    exporting.add_argument("--megabytes", type=float, default=10.0, help="of the compressed adapter (default: 10)")
    exporting.add_argument(
        "--sources", nargs="+", default=["chronicle"], help="with questions to ask while compressing"
    )
    exporting.add_argument("--data", type=Path, default=Path("data"), help="folder with the files of the sources")
    exporting.add_argument("--documents", type=int, default=3, help="of each source (default: 3)")
    exporting.add_argument("--questions", type=int, default=12, help="on each document (default: 12)")
    pushing = commands.add_parser("push", help="upload an exported folder to the hub")
    pushing.add_argument("folder", type=Path)
    pushing.add_argument("repository", help="NAME or OWNER/NAME")
    return parser


def export(chosen: argparse.Namespace) -> int:
    """Write a run's export in another form.

    Raises:
        MemLongError: for what cannot be exported so, or a folder that is taken.
    """
    if chosen.merged:
        from training.merging import merge

        merge(chosen.run, chosen.merged)
        print(f"merged into {chosen.merged}")
        return 0
    from itertools import chain, islice

    from training.compress import export_compressed, read_adapter
    from training.data.sources import open_source, require_folder

    for option, given in (("--documents", chosen.documents), ("--questions", chosen.questions)):
        if given < 1:
            raise ConfigError(f"{option} {given}", "A whole number from 1", f"Raise it, or leave {option} out")
    sources = [islice(open_source(name, chosen.data), chosen.documents) for name in chosen.sources]
    require_folder(chosen.sources, chosen.data)
    adapter = read_adapter(chosen.run, chosen.compressed)
    documents = chain.from_iterable(sources)
    export_compressed(adapter, chosen.compressed, chosen.megabytes, documents, chosen.questions, print)
    return 0


def run(config: AnyConfig, folder: Path) -> int:
    """Train (or resume) and export into ``folder / "export"``; an interrupt stops after the step at hand."""
    require_text(config)
    from memlong.quiet import quiet

    with quiet():  # libraries talk while they are imported
        from training.base import load_base, load_retriever
        from training.interrupts import remember_interrupts
        from training.loop import Trainer
        from training.metrics import forget_after
        from training.run import build, export
        from training.settled import settled
        from training.stages.build import build as build_stage
        from training.stages.trainer import StageTrainer
        from training.watch import watcher

    half = config.arithmetic == "bfloat16"
    if isinstance(config, StageConfig):
        model, tokenizer = load_base(config.model, config.quantization, half)
        config = settled(config, folder, model.device)
        trainer: Trainer | StageTrainer = build_stage(
            config, folder, model, tokenizer, load_retriever(config.retriever)
        )
    else:
        model, tokenizer = load_base(config.model, half=half)
        config = settled(config, folder, model.device)
        trainer = build(config, folder, model, tokenizer, load_retriever(config.retriever))
    first = not isinstance(trainer, StageTrainer) or trainer.accelerator.is_main_process
    resumed = trainer.resume()
    stop = remember_interrupts()
    if first:
        forget_after(folder, trainer.step)
        print(f"resumed at step {trainer.step}" if resumed else "started", flush=True)
    trainer.run(watcher(folder) if first else None, stopped=lambda: bool(stop))
    export(trainer, folder / "export")
    if first:
        print(f"{'stopped' if stop else 'done'} at step {trainer.step}; exported to {folder / 'export'}")
    return 0


def push(folder: Path, repository: str) -> int:
    """Upload an exported folder to the hub, as a private repository if there is none yet.

    Raises:
        ConfigError: when the folder is no export.
    """
    from huggingface_hub import HfApi

    if not (folder / "memory.json").is_file():
        raise ConfigError(f"{folder} has no memory.json", "The folder export/ of a run", "Run a recipe first")
    hub = HfApi()
    name = hub.create_repo(repository, exist_ok=True, private=True).repo_id
    hub.upload_folder(repo_id=name, folder_path=str(folder), commit_message="Upload adapter and memory settings")
    print(f"uploaded to {name}")
    return 0
