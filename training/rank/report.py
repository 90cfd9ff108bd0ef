"""The README beside trained weights: what they were trained on, and how."""

from __future__ import annotations

import json
import os
from pathlib import Path

from training.metrics import METRICS
from training.rank.pairs import PairSets
from training.rank.trainer import RankTrainer

_LOCAL = ("data", "threads")  # settings that say something about a machine only


def write_readme(trainer: RankTrainer, pairs: PairSets, folder: Path) -> None:
    """Write ``README.md`` into ``folder``, whole or not at all."""
    fresh = folder / "README.md.new"
    fresh.write_text(readme(trainer, pairs, last_evaluation(folder)), "utf-8")
    os.replace(fresh, folder / "README.md")


def readme(trainer: RankTrainer, pairs: PairSets, measured: dict[str, float]) -> str:
    """Return the text: sources with their numbers of questions, shares measured, and settings."""
    config = trainer.config
    counts = [
        f"| {text} | {weight} | {len(learned)} | {len(pairs.held_out.get(text.partition(':')[0], ()))} |"
        for text, weight, learned in zip(config.sources, config.weights, trainer.training)
    ]
    shares = ["", "Measured on held-out documents:", "", "| what | share |", "| --- | --- |"] if measured else []
    shares += [f"| {name} | {share:.3f} |" for name, share in measured.items()]
    settings = {key: value for key, value in config.to_dict().items() if key not in _LOCAL}
    return "\n".join(
        [
            "# Cross-encoder",
            "",
            "Low-rank updates, norms and one linear unit for all-MiniLM-L6-v2, which then reads a question beside a",
            f"part of a chunk. Made by `python -m training rank`, {trainer.step} of {config.steps} steps.",
            "",
            "| source | weight | questions learned from | held out |",
            "| --- | --- | --- | --- |",
            *counts,
            *shares,
            "",
            "```json",
            json.dumps(settings, indent=1),
            "```",
            "",
        ]
    )


def last_evaluation(folder: Path) -> dict[str, float]:
    """Return what was measured last, by name; {} where nothing was."""
    path = folder / METRICS
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return next((dict(row["evaluation"]) for row in reversed(rows) if row["evaluation"]), {})
