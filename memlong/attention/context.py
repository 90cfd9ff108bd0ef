"""What a forward pass is given of memory, and what it reports back.

Shapes: B batch, H query heads, G key/value heads, T local tokens, N chunks, C chunk tokens, M = N * C memory
tokens (padding included), D head size, P asked tokens, L retrieval layers; of one token, R query heads a key/value head
and K keys, memory first.
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
    """Attention of one token in one layer, not yet summed over chunks.

    Attributes:
        weights_BGRK: float32 shares of memory tokens, and behind them of local ones.
        kept: M. chunk_tokens: C.
    """

    weights_BGRK: Tensor
    kept: int
    chunk_tokens: int


class LastMass(NamedTuple):
    """Attention mass of the last local token of the first row.

    Attributes:
        layers: L retrieval layers.
        mass_LHN: float32 shares of each chunk, on the CPU; the local share is what is missing to one.
    """

    layers: tuple[int, ...]
    mass_LHN: Tensor


@dataclass
class MassObserver:
    """Collects attention mass, one entry a forward pass and retrieval layer.

    Attributes:
        last_only: keep the last local token's row alone, which is all that generation needs.
    """

    last_only: bool = True
    _seen: list[tuple[int, Tensor | Weights]] = field(default_factory=list)

    def record(self, layer: int, seen: Tensor | Weights) -> None:
        """Add one forward pass of one layer: shares of chunks [B, H, T, N] float32, or weights to be summed later."""
        if not isinstance(seen, Weights) and self.last_only and seen.shape[2] > 1:
            seen = seen[:, :, -1:]
        self._seen.append((layer, seen))

    def take(self) -> dict[int, Tensor]:
        """Return and forget what was recorded: layer -> [B, H, T, N], passes joined along T.

        It is the share of each query token's attention on each chunk; the local share is what is missing to one.
        """
        passes: dict[int, list[Tensor]] = {}
        for layer, part in self._seen:
            passes.setdefault(layer, []).append(_by_chunk(part))
        self._seen = []
        return {layer: torch.cat(parts, dim=2) for layer, parts in passes.items()}

    def take_last(self) -> LastMass | None:
        """Return and forget what :meth:`take` would, of the last token alone; None when nothing was recorded."""
        last, self._seen = dict(self._seen), []
        parts = list(last.values())
        if not parts:
            return None
        weights = [part for part in parts if isinstance(part, Weights)]
        alike = len({(part.weights_BGRK.shape, *part[1:]) for part in weights}) == 1
        if alike and len(weights) == len(parts):
            # One sum over all layers: an operation in each would take several times as long.
            together = torch.stack([part.weights_BGRK for part in weights])
            mass_LHN = _by_chunk(weights[0]._replace(weights_BGRK=together))[:, 0, :, -1]
        else:
            mass_LHN = torch.stack([_by_chunk(part)[0, :, -1] for part in parts])
        return LastMass(tuple(last), mass_LHN.cpu())


def _by_chunk(seen: Tensor | Weights) -> Tensor:
    """Return shares of chunks [..., B, H, T, N]."""
    if not isinstance(seen, Weights):
        return seen
    weights, kept, chunk_tokens = seen
    mass = weights[..., :kept].unflatten(-1, (-1, chunk_tokens)).sum(dim=-1)
    return mass.flatten(-3, -2).unsqueeze(-2)


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
