"""What the machine gives: memory of model and bank, the peak, and where the time of an answer went."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from app.engine import Engine
from app.sessions import Visit
from app.switching import device_words

PHASES = ("embed", "search", "gather", "prefill", "decode")
"""What an answer's time is spent on, in order."""


@dataclass(frozen=True)
class Resources:
    """Memory, in bytes.

    Attributes:
        device: in words. weights: of the model. bank: of this visitor. banks: of all visitors together.
        peak: the most that was ever in use on the device (on the CPU: by this program); None when unknown.
        free: that can still be taken; None when unknown.
    """

    device: str
    weights: int
    bank: int
    banks: int
    peak: int | None
    free: int | None


def resources(engine: Engine, visits: list[Visit], visit: Visit | None) -> Resources | None:
    """Return what is in use; None before there is a model."""
    if not engine.state.ready:
        return None
    from memlong.bank.memory import available_bytes

    model = engine.model
    sizes = {each.key: each.session.bank.nbytes for each in visits if each.session is not None}
    return Resources(
        device_words(model.device),
        model.parameters_bytes(),
        sizes.get(visit.key, 0) if visit else 0,
        sum(sizes.values()),
        _peak(model.device.type),
        available_bytes(model.device),
    )


def _peak(kind: str) -> int | None:
    if kind == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def time_split(visit: Visit | None) -> list[tuple[str, float]]:
    """Return (phase, seconds) of the newest finished answer, in order; [] before the first."""
    answers = [exchange.answer for exchange in visit.exchanges if exchange.answer] if visit else []
    if not answers:
        return []
    seconds = answers[-1].seconds
    return [(phase, float(seconds.get(phase, 0.0))) for phase in PHASES]
