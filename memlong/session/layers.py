"""Where each token looked, layer by layer and head by head: numbers first, words for the trace when somebody looks.

Shapes: L retrieval layers, H query heads, N chunks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from memlong.trace.events import LayerMass
from memlong.trace.recorder import Recorder

if TYPE_CHECKING:
    from torch import Tensor


class Looked(NamedTuple):
    """One token's look at memory: its answer, its place in that, the layers [L], the chunks [N], the mass."""

    answer_id: int
    token: int
    layers: tuple[int, ...]
    chunk_ids: tuple[int, ...]
    mass_LHN: Tensor


@dataclass
class LayerNotes:
    """Tells a trace of layers and heads.

    Attributes:
        recorder: of the session. at_once: whether the trace is told as answers grow; else :meth:`settle` tells it, and
            until then a look costs no more than keeping its numbers. waiting: what was not told yet.
    """

    recorder: Recorder
    at_once: bool = True
    waiting: deque[Looked] = field(default_factory=deque)

    def note(self, look: Looked) -> None:
        """Take in one token's look."""
        if self.at_once:
            self._tell(look)
        else:
            self.waiting.append(look)

    def settle(self) -> None:
        """Tell the trace of everything that waits, in order."""
        while self.waiting:
            self._tell(self.waiting.popleft())

    def _tell(self, look: Looked) -> None:
        # Numbers leave the tensors in three lists: one by one they would cost more than all the rest of it.
        means = look.mass_LHN.mean(dim=1).tolist()
        heads = look.mass_LHN.sum(dim=2).tolist()
        each = look.mass_LHN.round(decimals=5).tolist()  # shares; more digits would only swell a saved trace
        for at, layer in enumerate(look.layers):
            self.recorder.append(
                LayerMass(
                    answer_id=look.answer_id,
                    index=look.token,
                    layer=layer,
                    local_mass=1 - sum(means[at]),
                    chunk_mass=tuple(zip(look.chunk_ids, means[at], strict=True)),
                    head_mass=tuple(heads[at]),
                    head_chunk_mass=tuple(map(tuple, each[at])),
                )
            )
