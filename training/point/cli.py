"""The command line of ``point``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from training import scoring_cli
from training.point.config import PointConfig
from training.rank.config import parse_source
from training.rank.documents import require_known

OUT = Path("runs") / "point"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``point`` takes."""
    scoring_cli.add_arguments(parser, OUT)


def run(chosen: argparse.Namespace) -> int:
    """Train (or go on) and write ``pointer.safetensors``.

    Raises:
        MemLongError: see :func:`training.scoring_cli.run`.
    """
    return scoring_cli.run(chosen, PointConfig(), train)


def train(
    config: PointConfig,
    folder: Path,
    say: Callable[[str], None],
    interrupts: Callable[[], list[int]] = list,
) -> None:
    """Make pairs, train, and write what came of it into ``folder``.

    Args:
        interrupts: called before the first step; what it returns is filled when the run should stop.

    Raises:
        MemLongError: for sources or a start that are not there, or a loss that is not finite.
    """
    require_known(map(parse_source, config.sources))
    from memlong.quiet import quiet

    with quiet():  # libraries talk while they are imported
        import torch

        from memlong.hardware import resolve_device
        from memlong.retriever.hybrid import HybridRetriever
        from memlong.retriever.pointer import WEIGHTS
        from training.base import load_tokenizer
        from training.point.scorer import PointScorer
        from training.point.trainer import PointTrainer
        from training.rank.pairs import load_pairs
        from training.rank.scorer import load_minilm, write_weights
        from training.scoring import train_and_write
        from training.settled import settled

    torch.set_num_threads(config.threads)
    device = resolve_device("auto")
    config = settled(config, folder, device)
    half, start = config.arithmetic == "bfloat16", Path(config.start) if config.start else None
    scorer = PointScorer(*load_minilm(device), config.rank, half, config.seed, start)
    pairs = load_pairs(config, load_tokenizer("bundled-base"), HybridRetriever(cross_encoder=None), folder, say)
    trainer = PointTrainer(config, scorer, pairs, folder)
    train_and_write(trainer, lambda: write_weights(scorer.weights(), folder / WEIGHTS), say, interrupts)
