"""A cache of local K-V that grows in place.

transformers' DynamicCache joins old and new states in a fresh tensor for every token and layer: beyond a few
hundred tokens, copying costs more than attending. Here states are written behind those that are there, in memory
that doubles when it is full.

Shapes: B batch, G key/value heads, T new tokens, S all tokens so far, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

_LEAST = 64  # tokens that a layer makes room for at first


class GrowingLayer(DynamicLayer):
    """One layer's states; ``keys`` and ``values`` are views [B, G, S, D] of the memory set aside."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the layer ready for states of this shape, type and device."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._room: tuple[Tensor, Tensor] = key_states[:, :, :0], value_states[:, :, :0]
        self.keys, self.values = self._room
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add states [B, G, T, D] and return all [B, G, S, D]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.keys.shape[2]
        # Whoever shortened, reordered or repeated the rows left other tensors here: what they hold is copied once.
        ours = self.keys.data_ptr() == self._room[0].data_ptr() and len(self.keys) == len(self._room[0])
        if not ours or held + key_states.shape[2] > self._room[0].shape[2]:
            size = max(2 * held, held + key_states.shape[2], _LEAST)
            self._room = _roomier(self.keys, key_states, size), _roomier(self.values, value_states, size)
        total = held + key_states.shape[2]
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, held:total] = states
        self.keys, self.values = (room[:, :, :total] for room in self._room)
        return self.keys, self.values


def growing_cache() -> Cache:
    """Return an empty cache for any number of layers."""
    return Cache(layer_class_to_replicate=GrowingLayer)


def _roomier(held: Tensor, new: Tensor, size: int) -> Tensor:
    room = torch.empty((*new.shape[:2], size, new.shape[3]), dtype=new.dtype, device=new.device)
    room[:, :, : held.shape[2]] = held
    return room
