"""The command line of ``rank``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from training import scoring_cli
from training.rank.config import RankConfig, parse_source
from training.rank.documents import require_known

OUT = Path("runs") / "rank"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``rank`` takes."""
    scoring_cli.add_arguments(parser, OUT)


def run(chosen: argparse.Namespace) -> int:
    """Train (or go on) and write ``cross_encoder.safetensors``.

    Raises:
        MemLongError: see :func:`training.scoring_cli.run`.
    """
    return scoring_cli.run(chosen, RankConfig(), train)


def train(
    config: RankConfig,
    folder: Path,
    say: Callable[[str], None],
    interrupts: Callable[[], list[int]] = list,
) -> None:
    """Make pairs, train, and write what came of it into ``folder``.

    Args:
        interrupts: called before the first step; what it returns is filled when the run should stop.

    Raises:
        MemLongError: for sources that are not there, or a loss that is not finite.
    """
    require_known(map(parse_source, config.sources))
    from memlong.quiet import quiet

    with quiet():  # libraries talk while they are imported
        import torch

        from memlong.hardware import resolve_device
        from memlong.retriever.cross_encoder import WEIGHTS
        from memlong.retriever.hybrid import HybridRetriever
        from training.base import load_tokenizer
        from training.rank.pairs import load_pairs
        from training.rank.report import write_readme
        from training.rank.scorer import load_scorer, write_weights
        from training.rank.trainer import RankTrainer
        from training.scoring import train_and_write
        from training.settled import settled

    torch.set_num_threads(config.threads)
    device = resolve_device("auto")
    config = settled(config, folder, device)
    pairs = load_pairs(config, load_tokenizer("bundled-base"), HybridRetriever(cross_encoder=None), folder, say)
    half = config.arithmetic == "bfloat16"
    scorer = load_scorer(config.rank, config.max_tokens, half, device, config.seed)
    trainer = RankTrainer(config, scorer, pairs, folder)

    def write() -> Path:
        written = write_weights(scorer.weights(), folder / WEIGHTS)
        write_readme(trainer, pairs, folder)
        return written

    train_and_write(trainer, write, say, interrupts)
