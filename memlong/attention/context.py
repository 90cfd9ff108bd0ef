"""What a forward pass is given of memory, and what it reports back.

Shapes: B batch, H query heads, G key/value heads, T local tokens, N chunks, C chunk tokens, M = N * C memory
tokens (padding included), D head size, P asked tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from memlong.attention.rotation import Rotation


class LayerMemory(NamedTuple):
    """Retrieved K-V as one retrieval layer reads them, at position 0.

    Attributes:
        keys_BGMD: keys.
        values_BGMD: values.
    """

    keys_BGMD: Tensor
    values_BGMD: Tensor


class Weights(NamedTuple):
    """Attention of one pass and layer on memory tokens, not yet summed over chunks.

    Attributes:
        on_tokens_BHTM: float32 shares. chunk_tokens: C.
    """

    on_tokens_BHTM: Tensor
    chunk_tokens: int


@dataclass
class MassObserver:
    """Collects attention mass, one entry a forward pass and retrieval layer.

    Attributes:
        last_only: keep the last local token's row alone, which is all that generation needs.
    """

    last_only: bool = True
    _passes: dict[int, list[Tensor | Weights]] = field(default_factory=dict)

    def record(self, layer: int, seen: Tensor | Weights) -> None:
        """Add one forward pass of one layer: shares of chunks [B, H, T, N] float32, or weights to be summed later."""
        rows = seen if isinstance(seen, Tensor) else seen.on_tokens_BHTM
        if self.last_only and rows.shape[2] > 1:
            rows = rows[:, :, -1:]
        kept = rows if isinstance(seen, Tensor) else Weights(rows, seen.chunk_tokens)
        self._passes.setdefault(layer, []).append(kept)

    def take(self) -> dict[int, Tensor]:
        """Return and forget what was recorded: layer -> [B, H, T, N], passes joined along T.

        It is the share of each query token's attention on each chunk; the local share is what is missing to one.
        """
        passes, self._passes = self._passes, {}
        only = [parts[0] for parts in passes.values()]
        one = [part for part in only if isinstance(part, Weights)]
        alike = len({(part.chunk_tokens, part.on_tokens_BHTM.shape) for part in one}) == 1
        if alike and len(one) == len(passes) and all(len(parts) == 1 for parts in passes.values()):
            # A token of an answer: one sum over all layers, where a sum in each would take several times as long.
            together = Weights(torch.stack([part.on_tokens_BHTM for part in one]), one[0].chunk_tokens)
            return dict(zip(passes, _by_chunk(together), strict=True))
        return {layer: torch.cat([_by_chunk(part) for part in parts], dim=2) for layer, parts in passes.items()}


def _by_chunk(seen: Tensor | Weights) -> Tensor:
    """Return shares of chunks [..., N]."""
    if isinstance(seen, Tensor):
        return seen
    return seen.on_tokens_BHTM.unflatten(-1, (-1, seen.chunk_tokens)).sum(dim=-1)


@dataclass
class EvidenceFocus:
    """Asks how much of the attention to memory falls on the evidence, so that training can ask for more.

    Of one layer and query token it is sum_h m_h p_h / sum_h m_h: p_h is the share of head h's attention to counted
    memory tokens that falls on evidence, and m_h, without gradient, the share of all its attention that memory gets.

    Attributes:
        evidence_BM: [B, M], True for tokens of the evidence, all of them counted ones.
        counted_BM: [B, M], True for tokens that count; one at least in every row.
        places_BP: [B, P], which local tokens are asked.
        asked_BP: [B, P], False where there is nothing to ask; its share means nothing.
        layers: retrieval layers that are asked.
        shares: layer -> [B, P] float32, of the last forward pass with gradients.
    """

    evidence_BM: Tensor
    counted_BM: Tensor
    places_BP: Tensor
    asked_BP: Tensor
    layers: frozenset[int]
    shares: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class MemoryContext:
    """Retrieved memory of one batch, ready for every retrieval layer.

    Attributes:
        layers: retrieval layer -> its K-V.
        chunk_tokens: C, so that M = N * C splits into chunks.
        padding_BM: [B, M], True where a position holds no token (short chunks, rows with fewer chunks); None: all do.
        relevance_BM: [B, M] float32, added to the memory logits of every layer and head: how much less each token
            has to do with the text at hand than the best one, and the doubt whether its chunk answers (at most 0).
            None is zero.
        bias: retrieval layer -> b_h [H], added to memory logits; a learned gate. None is zero.
        strength: added to every head's bias; -inf is the same as no memory.
        observer: where attention mass is reported; None computes none.
        focus: what training asks about evidence; None asks nothing.
    """

    layers: Mapping[int, LayerMemory]
    chunk_tokens: int
    padding_BM: Tensor | None = None
    relevance_BM: Tensor | None = None
    bias: Mapping[int, Tensor] | None = None
    strength: float = 0.0
    observer: MassObserver | None = None
    focus: EvidenceFocus | None = None

    def layer_bias(self, layer: int) -> Tensor | float:
        """Return b_h plus strength: a number, or [H]."""
        learned = self.bias.get(layer) if self.bias else None
        return self.strength if learned is None else learned + self.strength


class Turning(NamedTuple):
    """The stored layer that runs at position 0 just now, and how its queries and keys get to their places.

    Attributes:
        layer: its index. rotation: None where keys are stored as they are.
    """

    layer: int
    rotation: Rotation | None


@dataclass
class ReadCapture:
    """Collects un-rotated K-V while a window is read.

    Attributes:
        layers: stored layers wanted, ascending.
        kv: layer -> (keys [B, G, T, D], values [B, G, T, D]).
        memory: makes the memory of this very pass out of what was collected, once all ``layers`` are there; None ends
            the pass at the highest of them.
        retrieval_layers: the layers that read that memory.
        turning: set by the hook in front of a stored layer for the attention function behind it.
    """

    layers: tuple[int, ...]
    kv: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    memory: Callable[[], MemoryContext | None] | None = None
    retrieval_layers: frozenset[int] = frozenset()
    turning: Turning | None = None
    _context: MemoryContext | None = None
    _made: bool = False

    def take(self, layer: int | None, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep K-V of a layer that runs at position 0, and return its queries and keys at their places."""
        if self.turning is None or self.turning.layer != layer:
            return query, key
        rotation, self.turning = self.turning.rotation, None
        self.kv[layer] = (key, value)
        return (query, key) if rotation is None else (rotation.turn(query), rotation.turn(key))

    def context(self, layer: int | None) -> MemoryContext | None:
        """Return what ``layer`` attends to beside its local context, made when the first layer asks."""
        if self.memory is None or layer not in self.retrieval_layers:
            return None
        if not self._made:
            self._context, self._made = self.memory(), True
        return self._context


@dataclass
class CaptureProbe:
    """Marks a second run of an attention module, left as soon as its queries, keys and values are there.

    Attributes:
        states: queries [B, H, T, D], keys and values [B, G, T, D]; None before.
    """

    states: tuple[Tensor, Tensor, Tensor] | None = None


class KVCaptured(Exception):
    """Leaves a second run of an attention module as soon as its states are there."""


class ReadingDone(Exception):
    """Leaves the decoder at the highest stored layer: nothing above it is needed while reading."""
