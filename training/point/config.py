"""Settings of a pointer's training."""

from __future__ import annotations

from dataclasses import dataclass, fields

from memlong.errors import ConfigError
from training.rank.config import RankConfig

# Of a cross-encoder's settings: one part holds the answer, and a pair is as long as the pointer reads it.
_NOT_ITS_OWN = ("positives", "max_tokens")


@dataclass(frozen=True)
class PointConfig(RankConfig):
    """MiniLM with low-rank updates, trained to point at an answer's words in parts of chunks, or at none of them.

    Questions and parts are made as those of a cross-encoder, whose settings these are, but for:

    Attributes:
        pairs: parts read for a question, of which one holds the answer, if any.
        lost: share of answerable questions whose part with the answer is left out, so that none is to be pointed at.
        open: share of the questions drawn that ask for what no words of a text are: summaries, opinions, reasons.
        start: folder of a cross-encoder to begin with, which read such pairs already, or of a pointer to go on with;
            "" begins with MiniLM.
    """

    sources: tuple[str, ...] = (
        "squad", "swapped:76:80", "chronicle:50:80", "chronicle-24000:12:240", "chronicle-80000:4:500", "fairytale",
        "nq:90", "qamr:5:4000",
    )  # fmt: skip
    weights: tuple[float, ...] = (0.45, 0.12, 0.06, 0.05, 0.05, 0.1, 0.07, 0.1)
    pairs: int = 4
    steps: int = 3000
    at_once: int = 4
    rank: int = 24
    learning_rate: float = 6e-4
    lost: float = 0.1
    open: float = 0.04
    start: str = "assets/cross_encoder"
    positives: int = 1
    max_tokens: int = 224  # as ``memlong.retriever.pointer.MAX_TOKENS``

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            if field.name in _NOT_ITS_OWN and getattr(self, field.name) != field.default:
                given = f"{field.name}={getattr(self, field.name)}"
                raise ConfigError(given, f"{field.default}, which the pointer itself asks for", "Leave it out")
        if not (self.lost >= 0 and self.open >= 0 and self.lost < 1 and self.open < 1):
            given = f"lost={self.lost} open={self.open}"
            raise ConfigError(given, "Shares from 0, below 1", "Write lost=0.1 open=0.04")
