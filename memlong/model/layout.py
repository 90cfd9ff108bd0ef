"""Which layers' K-V are stored, and where each retrieval layer reads from. Plain Python: no torch.

A retrieval layer reads its *own* stored K-V, the *same* K-V as another layer's (the paper), or a *map* of the K-V
of one or two stored layers. Every variant is a choice of these three.
"""

from __future__ import annotations

from dataclasses import dataclass

from memlong.config import MemoryConfig
from memlong.errors import ConfigError
from memlong.layers import layers_text

# Where memory enters, as a share of the depth: on a 30-layer model, memory read by all layers from 8 up served an
# untrained model as well as the passage in its prompt; from 20 up it did nothing.
_OWN_FROM, _PROJECTED_FROM = 8 / 30, 7 / 30


@dataclass(frozen=True)
class Source:
    """Where one retrieval layer's K-V come from.

    Attributes:
        kind: ``own``, ``same`` or ``map``.
        layers: the stored layers read: one, or for a map one or two.
    """

    kind: str
    layers: tuple[int, ...]


@dataclass(frozen=True)
class MemoryLayout:
    """The complete plan: stored layers, and a source for every retrieval layer (both ascending)."""

    stored_layers: tuple[int, ...]
    sources: dict[int, Source]

    @property
    def retrieval_layers(self) -> tuple[int, ...]:
        """Layers that attend to memory, ascending."""
        return tuple(self.sources)

    @property
    def mapped_layers(self) -> tuple[int, ...]:
        """Retrieval layers that need a map."""
        return tuple(layer for layer, source in self.sources.items() if source.kind == "map")


def resolve_layout(config: MemoryConfig, layers: int) -> MemoryLayout:
    """Return the layout of ``config`` on a model of ``layers`` layers.

    Raises:
        ConfigError: for layers outside the model or retrieval layers below the lowest stored one.
    """
    stored = config.stored_layers or _preset_stored(config, layers)
    retrieval = config.retrieval_layers or _preset_retrieval(config, stored, layers)
    for name, chosen in (("stored_layers", stored), ("retrieval_layers", retrieval)):
        if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= layers:
            raise ConfigError(
                f"{name}={layers_text(chosen)}",
                f"Different layers of the model in ascending order, from 0 to {layers - 1}",
                f"Choose {name} within the model, or leave it empty to take the preset's",
            )
    if retrieval[0] < stored[0]:
        raise ConfigError(
            f"retrieval layer {retrieval[0]} below the lowest stored layer {stored[0]}",
            "Retrieval layers start at the lowest stored layer",
            f"Store a layer from {retrieval[0]} down, or retrieve from {stored[0]} up",
        )
    return MemoryLayout(stored, {layer: _source(config.preset, stored, layer) for layer in retrieval})


def _preset_stored(config: MemoryConfig, layers: int) -> tuple[int, ...]:
    if config.preset == "paper":
        return (layers // 2,)
    if config.preset == "projected":
        return (min(round(layers * _PROJECTED_FROM), layers - 1),)
    lowest = min(round(layers * _OWN_FROM), layers - 1)
    if config.preset == "own":
        return tuple(layer for layer in (config.retrieval_layers or range(lowest, layers)))
    highest = max(layers - 2, lowest)
    return tuple(sorted({lowest, (lowest + highest) // 2, highest}))


def _preset_retrieval(config: MemoryConfig, stored: tuple[int, ...], layers: int) -> tuple[int, ...]:
    if config.preset == "paper":
        # OpenLLaMA-3B, 26 layers: memory layer 13, retrieval layers 13, 17, 21, 25 as in the paper.
        return tuple(range(stored[0], layers, max(1, (layers - stored[0]) // 3)))[:4]
    if config.preset == "projected":
        return tuple(range(min(stored[0] + 1, layers - 1), layers))
    return tuple(range(stored[0], layers)) if config.preset == "interpolated" else stored


def _source(preset: str, stored: tuple[int, ...], layer: int) -> Source:
    if layer in stored and preset != "paper":
        return Source("own", (layer,))
    below = max(stored_layer for stored_layer in stored if stored_layer <= layer)
    if preset == "paper" or preset == "own":
        return Source("own" if below == layer else "same", (below,))
    if preset == "projected":
        return Source("map", (below,))
    above = [stored_layer for stored_layer in stored if stored_layer > layer]
    return Source("map", (below, above[0]) if above else (below,))
