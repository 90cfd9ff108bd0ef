"""Places of retrieved keys: all at position 0, as in the paper, or in their order right before the local context.

Keys are stored un-rotated, so where they stand is decided when they are read. Rotary positions are relative: local
tokens are numbered from 1, and memory of M tokens stands at 1 - M to 0, as if its text stood before the question.
At position 0 a query cannot tell which stored tokens are neighbours of one another; how much a reader gains by
knowing is in ``EXPERIMENTS.md``.

Shapes: N chunks, C chunk tokens, G key/value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memlong.attention.register import switched
from memlong.attention.rotation import Rotation
from memlong.errors import ModelError
from memlong.model.architecture import ModelSpec, position_zero
from memlong.model.capture import attention_states, evaluating

# Their frequencies depend on the length of the whole text, so a key has no rotation of its own.
_CHANGING = frozenset({"dynamic", "longrope"})


class Placing:
    """Turns un-rotated keys of a model to their places before the local context.

    Args:
        base: a transformers model. spec: what it is like. layers: whose keys will be turned.

    Raises:
        ModelError: for a model whose layers do not turn keys as :class:`Rotation` does, measured on each of them.
    """

    def __init__(self, base: Any, spec: ModelSpec, layers: Sequence[int]) -> None:
        self._rotary = _rotary_module(base)
        self._scale = spec.rotary_scale
        places = torch.tensor([[-5, 3]])
        with torch.no_grad(), evaluating(base), switched(base):
            for layer in layers:
                if not self._turns(base, spec, layer, places):
                    raise _refusal(f"Layer {layer} of {type(base).__name__} turns its keys in another way")

    def rotation(self, places_NC: Tensor) -> Rotation:
        """Return the rotation to whole-number places, float32."""
        cos, sin = self._embeddings(places_NC, torch.float32)
        return Rotation(cos / self._scale, sin / self._scale) if self._scale else Rotation(cos, sin)

    def turn(self, keys_NGCD: Tensor, rotation: Rotation) -> Tensor:
        """Return keys at their places, in their own type; the products are taken in float32."""
        return rotation.turn(keys_NGCD.float()).to(keys_NGCD.dtype)

    def _embeddings(self, places_NC: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        device = self._rotary.inv_freq.device
        made = self._rotary(torch.zeros(1, dtype=dtype, device=device), places_NC.to(device))
        if not isinstance(made, tuple) or len(made) != 2:
            raise _refusal(f"{type(self._rotary).__name__} does not make cosines and sines")
        return made

    def _turns(self, base: Any, spec: ModelSpec, layer: int, places_1T: Tensor) -> bool:
        module = spec.attention[layer]
        weight = next(module.parameters())
        dtype = base.dtype
        random = torch.Generator().manual_seed(layer)
        hidden = torch.randn(1, places_1T.shape[1], spec.hidden_size, generator=random)
        own = {"hidden_states": hidden.to(weight.device, dtype), "attention_mask": None, "past_key_values": None}
        placed = self._embeddings(places_1T, dtype)
        try:
            turned = attention_states(module, (), own | {"position_embeddings": placed})[1]
            plain = attention_states(module, (), own | {"position_embeddings": position_zero(placed, self._scale)})[1]
        except TypeError:
            return False
        ours = self.turn(plain, self.rotation(places_1T.to(plain.device)))
        # Half precision rounds several times on the model's way; another layout is off by about the keys themselves.
        reach = 1e-4 if turned.dtype == torch.float32 else 0.03
        return ours.shape == turned.shape and bool((ours - turned).abs().max() <= reach * turned.abs().max())


def places_before(lengths: Sequence[int], chunk_tokens: int) -> Tensor:
    """Return [N, C]: places of the tokens of chunks in the given order, the last one at 0; padding goes on counting."""
    ends = torch.tensor(list(lengths), dtype=torch.long).cumsum(0)
    starts = ends - torch.tensor(list(lengths), dtype=torch.long) - (ends[-1:] - 1)
    return starts[:, None] + torch.arange(chunk_tokens)


def _rotary_module(base: Any) -> Any:
    found = [module for module in base.modules() if isinstance(getattr(module, "inv_freq", None), Tensor)]
    if len(found) != 1:
        raise _refusal(f"{type(base).__name__} has {len(found)} rotary modules")
    kind = getattr(found[0], "rope_type", "default")
    if kind in _CHANGING:
        raise _refusal(f"{type(base).__name__} has rotary positions of type {kind!r}")
    return found[0]


def _refusal(given: str) -> ModelError:
    return ModelError(
        f"{given}, and memory_positions is 'before'",
        "One rotary module with fixed frequencies, which turns the two halves of a head's first dimensions",
        "Use memory_positions=zero, the paper's way, which works on every model",
    )
