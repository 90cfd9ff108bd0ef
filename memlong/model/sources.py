"""From the K-V that the bank stores to the K-V that each retrieval layer reads.

Shapes: S stored layers, N chunks, G key/value heads, C chunk tokens, D head size, F = 2 * G * D features of one
token in one layer (its keys of all heads, then its values).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from memlong.errors import ModelError
from memlong.model.layout import MemoryLayout


class KVMaps(nn.Module):
    """One affine map per mapped retrieval layer: [K ; V] of its one or two stored layers -> [K_i ; V_i].

    Attributes:
        weight: str(layer) -> [F * sources, F]. bias: str(layer) -> [F].
    """

    def __init__(self, layout: MemoryLayout, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        features = 2 * kv_heads * head_dim
        self.weight, self.bias = nn.ParameterDict(), nn.ParameterDict()
        for layer in layout.mapped_layers:
            sources = layout.sources[layer].layers
            start = torch.zeros(len(sources) * features, features)
            for part in start.split(features):
                # Before any fit: the mean of the sources, so that unfitted maps are at least finite and in scale.
                part.copy_(torch.eye(features) / len(sources))
            self.weight[str(layer)] = nn.Parameter(start)
            self.bias[str(layer)] = nn.Parameter(torch.zeros(features))

    def apply_map(self, layer: int, features_TF: Tensor) -> Tensor:
        """Map [tokens, F * sources] to [tokens, F] for one retrieval layer."""
        weight, bias = self.weight[str(layer)], self.bias[str(layer)]
        return torch.addmm(bias.to(features_TF.dtype), features_TF, weight.to(features_TF.dtype))


def features(keys_NGCD: Tensor, values_NGCD: Tensor) -> Tensor:
    """Return [N * C, F]: every token's keys of all heads, then its values of all heads."""
    return torch.cat([_flat(keys_NGCD), _flat(values_NGCD)], dim=-1)


def unfold(features_TF: Tensor, chunk_tokens: int, kv_heads: int) -> tuple[Tensor, Tensor]:
    """Undo :func:`features`: [N * C, F] -> keys, values [N, G, C, D]; N may be 0, where nothing was retrieved."""
    keys, values = features_TF.chunk(2, dim=-1)
    return _unflat(keys, chunk_tokens, kv_heads), _unflat(values, chunk_tokens, kv_heads)


def refuse_without_maps(layout: MemoryLayout, maps: KVMaps | None) -> None:
    """Raise ModelError when retrieval layers read mapped K-V and there are no maps for them."""
    missing = [layer for layer in layout.mapped_layers if maps is None or str(layer) not in maps.weight]
    if missing:
        raise ModelError(
            f"Retrieval layers {missing} read mapped K-V, and there are no maps for them",
            "Presets 'projected' and 'interpolated' need fitted maps; 'own' and 'paper' need none",
            "Run `python -m memlong fit MODEL TEXT.txt --out maps/` and load maps/, or choose another preset",
        )


def expand(
    layout: MemoryLayout, maps: KVMaps | None, keys_SNGCD: Tensor, values_SNGCD: Tensor
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return retrieval layer -> (keys [N, G, C, D], values [N, G, C, D]).

    Maps are applied to what was retrieved, so their cost is one small matrix product per layer and retrieval.

    Raises:
        ModelError: when the layout needs maps and there are none.
    """
    refuse_without_maps(layout, maps)
    place = {layer: index for index, layer in enumerate(layout.stored_layers)}
    kv_heads, chunk_tokens = keys_SNGCD.shape[2:4]
    flat: dict[int, Tensor] = {}
    result: dict[int, tuple[Tensor, Tensor]] = {}
    for layer, source in layout.sources.items():
        if source.kind != "map":
            index = place[source.layers[0]]
            result[layer] = (keys_SNGCD[index], values_SNGCD[index])
            continue
        for stored in source.layers:
            if stored not in flat:
                flat[stored] = features(keys_SNGCD[place[stored]], values_SNGCD[place[stored]])
        assert maps is not None
        mapped = maps.apply_map(layer, torch.cat([flat[stored] for stored in source.layers], dim=-1))
        result[layer] = unfold(mapped, chunk_tokens, kv_heads)
    return result


def read_alike(layout: MemoryLayout) -> dict[int, int]:
    """Return retrieval layer -> the lowest retrieval layer that reads the same K-V, often itself."""
    first: dict[int, int] = {}
    return {
        layer: layer if source.kind == "map" else first.setdefault(source.layers[0], layer)
        for layer, source in layout.sources.items()
    }


def stack_rows(parts: Sequence[Tensor], chunks: int) -> Tensor:
    """Return [B, G, M, D] of the rows' K or V [N, G, C, D], rows of fewer than ``chunks`` chunks padded with zeros."""
    if any(states.requires_grad for states in parts):  # trained maps: one gradient for all, not a copy for each row
        return torch.stack([_padded(states, chunks).transpose(0, 1).flatten(1, 2) for states in parts])
    _, heads, size, dim = parts[0].shape
    out = parts[0].new_empty(len(parts), heads, chunks, size, dim)
    for row, states in enumerate(parts):
        out[row, :, : len(states)] = states.transpose(0, 1)
        out[row, :, len(states) :] = 0
    return out.flatten(2, 3)


def _padded(states_NGCD: Tensor, chunks: int) -> Tensor:
    missing = chunks - len(states_NGCD)
    return torch.cat([states_NGCD, states_NGCD.new_zeros(missing, *states_NGCD.shape[1:])]) if missing else states_NGCD


def _flat(states_NGCD: Tensor) -> Tensor:
    return states_NGCD.transpose(1, 2).flatten(2).flatten(0, 1)


def _unflat(states_TF: Tensor, chunk_tokens: int, kv_heads: int) -> Tensor:
    return states_TF.unflatten(0, (-1, chunk_tokens)).unflatten(-1, (kv_heads, -1)).transpose(1, 2)
