"""Un-rotated K-V out of a running decoder, with no knowledge of its architecture.

A hook in front of each stored layer's attention module runs the module at position 0. The module's own
pre-attention step does the work, so k-norm, fused projections and partial or interleaved rotary all come out
right, with no rounding step. Then either

- the queries and keys of that run are turned to their places in the attention function, and it is the only run:
  for the modules of which this was measured to be the same, most of them; or
- it was a second run, left as soon as K and V are there, which costs one more q/k/v projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from memlong.attention.context import CaptureProbe, KVCaptured, ReadCapture, ReadingDone, Turning
from memlong.attention.register import bound, bound_memory
from memlong.attention.rotation import Rotation
from memlong.errors import ModelError
from memlong.model.architecture import ModelSpec, position_zero, refuse_missing_rotary


@contextmanager
def capturing(spec: ModelSpec, capture: ReadCapture) -> Iterator[None]:
    """Fill ``capture`` while a decoder runs on this thread, and end the run at the highest layer wanted.

    Hooks see the forward passes of every thread, so each acts only where its own ``capture`` is bound.

    Raises:
        ModelError: when the run ended without passing the layers wanted.
    """
    handles = [
        spec.attention[layer].register_forward_pre_hook(_hook(spec, capture, layer), with_kwargs=True)
        for layer in capture.layers
    ]
    try:
        with bound(capture):
            yield
    except ReadingDone:
        pass
    finally:
        for handle in handles:
            handle.remove()
    _check(spec, capture)


def stacked(capture: ReadCapture) -> tuple[Tensor, Tensor]:
    """Return keys and values [S, B, G, T, D] of all layers of ``capture``, ascending."""
    keys, values = zip(*(capture.kv[layer] for layer in capture.layers), strict=True)
    if len(keys) == 1:
        return keys[0][None], values[0][None]  # views: nothing to copy
    return torch.stack(keys), torch.stack(values)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run without dropout, also in the middle of training; every module's mode is back afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _hook(spec: ModelSpec, capture: ReadCapture, layer: int) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if bound_memory() is not capture:
            return None  # another thread's pass, or a second run
        zero = dict(kwargs, past_key_values=None)
        if spec.rotary:
            if kwargs.get("position_embeddings") is None:
                raise refuse_missing_rotary(module)
            zero["position_embeddings"] = position_zero(kwargs["position_embeddings"], spec.rotary_scale)
        last = layer == capture.layers[-1] and capture.memory is None
        if not last and kwargs.get("past_key_values") is None:
            rotation = _rotation(kwargs["position_embeddings"], spec.rotary_scale) if spec.rotary else None
            if not spec.rotary or (rotation and _turns(module, args, kwargs, zero, rotation)):
                capture.turning = Turning(layer, rotation)
                return args, zero
        capture.kv[layer] = attention_states(module, args, zero)[1:]
        if last:
            raise ReadingDone
        return None

    return hook


def attention_states(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Run a module up to its attention function and return its queries, keys and values."""
    probe = CaptureProbe()
    try:
        with bound(probe):
            module(*args, **kwargs)
    except KVCaptured:
        pass
    if probe.states is None:
        raise _unreached(module)
    return probe.states


def _rotation(embeddings: Any, scale: float | None) -> Rotation | None:
    """Return the rotation of ``embeddings``; None when they are not cosines and sines of a known scale."""
    if not isinstance(embeddings, tuple) or len(embeddings) != 2 or scale is None:
        return None
    cos, sin = embeddings
    return Rotation(cos, sin) if scale == 1.0 else Rotation(cos / scale, sin / scale)


_TURNING: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _turns(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], zero: dict[str, Any], rotation: Rotation
) -> bool:
    """Say whether ``rotation`` does to a module's queries and keys what the module does; measured once.

    It does not where pairs are interleaved (Cohere, GLM), where a layer has no positions (SmolLM3), or where
    something comes after the rotation (Llama 4).
    """
    known = _TURNING.get(module)
    if known is None:
        plain, own = attention_states(module, args, zero), attention_states(module, args, kwargs)
        known = all(_close(rotation.turn(plain[i]), own[i]) for i in (0, 1)) and torch.equal(plain[2], own[2])
        _TURNING[module] = known
    return known


def _close(mine: Tensor, own: Tensor) -> bool:
    """Equal but for the last bits: 1e-6 of the largest number in float32, one rounding in narrower types."""
    reach = max(1e-6, torch.finfo(own.dtype).eps if own.dtype.itemsize < 4 else 0.0)
    return mine.shape == own.shape and bool((mine - own).abs().max() <= reach * own.abs().max())


def _unreached(module: nn.Module) -> ModelError:
    return ModelError(
        f"{type(module).__name__} did not reach the attention function",
        "Layers whose attention goes through transformers' attention interface",
        "Store other layers, or choose another architecture",
    )


def _check(spec: ModelSpec, capture: ReadCapture) -> None:
    for layer in capture.layers:
        if layer not in capture.kv:
            raise _unreached(spec.attention[layer])
        wanted = (spec.kv_heads, spec.head_dim)
        for states in capture.kv[layer]:
            if (states.shape[1], states.shape[3]) != wanted:
                raise ModelError(
                    f"Layer {layer} makes keys or values of {states.shape[1]} heads of {states.shape[3]}",
                    f"{wanted[0]} heads of {wanted[1]} for keys and values of every layer, as the configuration says",
                    "Choose another architecture",
                )
