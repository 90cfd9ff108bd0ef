"""The command line of ``decompose``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from training import scoring_cli
from training.decompose.config import DecomposeConfig

OUT = Path("runs") / "decompose"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``decompose`` takes."""
    scoring_cli.add_arguments(parser, OUT)


def run(chosen: argparse.Namespace) -> int:
    """Train (or go on) and write ``decomposer.safetensors``.

    Raises:
        MemLongError: see :func:`training.scoring_cli.run`.
    """
    return scoring_cli.run(chosen, DecomposeConfig(), train)


def train(
    config: DecomposeConfig,
    folder: Path,
    say: Callable[[str], None],
    interrupts: Callable[[], list[int]] = list,
) -> None:
    """Make examples, train, and write what came of it into ``folder``.

    Args:
        interrupts: called before the first step; what it returns is filled when the run should stop.

    Raises:
        MemLongError: for sources that are not there, or a loss that is not finite.
    """
    from memlong.quiet import quiet

    with quiet():  # libraries talk while they are imported
        import torch

        from memlong.hardware import resolve_device
        from memlong.retriever.decomposer import WEIGHTS
        from training.decompose.examples import load_examples
        from training.decompose.scorer import SpanScorer
        from training.decompose.trainer import DecomposeTrainer
        from training.rank.scorer import load_minilm, write_weights
        from training.scoring import train_and_write
        from training.settled import settled

    torch.set_num_threads(config.threads)
    device = resolve_device("auto")
    sets = load_examples(config, say)
    config = settled(config, folder, device)
    scorer = SpanScorer(*load_minilm(device), config.rank, config.arithmetic == "bfloat16", config.seed)
    trainer = DecomposeTrainer(config, scorer, sets, folder)
    train_and_write(trainer, lambda: write_weights(scorer.weights(), folder / WEIGHTS), say, interrupts)
