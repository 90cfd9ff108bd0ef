"""Which window a batch row sees at which step: a function of (seed, row, step) alone.

So windows of one document follow each other in their row whatever the number of workers, and a resumed run goes on
in the middle of a document. Rows are numbered over all processes. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Place:
    """A window: of which document (its index), and which of its windows; 0 is where the bank is cleared."""

    document: int
    window: int


@dataclass
class _Epochs:
    """What is known of a row's way: for each epoch its first step, its documents, and where each of them ends."""

    starts: list[int] = field(default_factory=lambda: [0])
    documents: list[np.ndarray] = field(default_factory=list)
    ends: list[np.ndarray] = field(default_factory=list)


class RowPlan:
    """Deals documents out to batch rows, anew in every epoch.

    Args:
        windows: number of windows of every document, each at least 1.
        rows: batch rows of all processes together. seed: of the order.
    """

    def __init__(self, windows: Sequence[int], rows: int, seed: int) -> None:
        self.windows, self.rows, self.seed = np.asarray(windows, dtype=np.int64), rows, seed
        self._ways: dict[int, _Epochs] = {}

    def at(self, row: int, step: int) -> Place:
        """Return the window of a row (0 to rows - 1) at a step (from 0)."""
        way = self._ways.setdefault(row, _Epochs())
        while way.starts[-1] <= step:
            self._extend(way, row)
        epoch = int(np.searchsorted(way.starts, step, side="right")) - 1
        inside = step - way.starts[epoch]
        place = int(np.searchsorted(way.ends[epoch], inside, side="right"))
        before = int(way.ends[epoch][place - 1]) if place else 0
        return Place(int(way.documents[epoch][place]), inside - before)

    def _extend(self, way: _Epochs, row: int) -> None:
        order = np.random.default_rng((self.seed, len(way.documents))).permutation(len(self.windows))
        # With fewer documents than rows some are read by several rows.
        mine = order[row :: self.rows] if row < len(order) else order[row % len(order) :][:1]
        ends = np.cumsum(self.windows[mine])
        way.documents.append(mine)
        way.ends.append(ends)
        way.starts.append(way.starts[-1] + int(ends[-1]))
