"""Un-rotated K-V out of a running decoder, with no knowledge of its architecture.

A hook in front of each stored layer's attention module runs the module once more at position 0, and leaves it as
soon as its K and V reach the attention function. The module's own pre-attention step does the work, so k-norm,
fused projections and partial or interleaved rotary all come out right, with no rounding step; it costs one more
q/k/v projection per stored layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memlong.attention.context import CaptureProbe, KVCaptured, ReadCapture, ReadingDone
from memlong.attention.register import bound, bound_memory
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
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if bound_memory() is not capture:
            return  # another thread's pass, or the second run itself
        again = dict(kwargs, past_key_values=None)
        if spec.rotary:
            if kwargs.get("position_embeddings") is None:
                raise refuse_missing_rotary(module)
            again["position_embeddings"] = position_zero(kwargs["position_embeddings"], spec.rotary_scale)
        try:
            with bound(CaptureProbe(capture, layer)):
                module(*args, **again)
        except KVCaptured:
            pass
        if layer == capture.layers[-1]:
            raise ReadingDone

    return hook


def _check(spec: ModelSpec, capture: ReadCapture) -> None:
    for layer in capture.layers:
        if layer not in capture.kv:
            raise ModelError(
                f"Layer {layer} ({type(spec.attention[layer]).__name__}) did not reach the attention function",
                "Layers whose attention goes through transformers' attention interface",
                "Store other layers, or choose another architecture",
            )
        wanted = (spec.kv_heads, spec.head_dim)
        for states in capture.kv[layer]:
            if (states.shape[1], states.shape[3]) != wanted:
                raise ModelError(
                    f"Layer {layer} makes keys or values of {states.shape[1]} heads of {states.shape[3]}",
                    f"{wanted[0]} heads of {wanted[1]} for keys and values of every layer, as the configuration says",
                    "Choose another architecture",
                )
