"""Gated feed-forward layers that multiply in place where nothing needs what they multiply.

A layer down(act(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202) makes four arrays of its inner width, the widest of
a forward pass. Two are enough, so more windows fit into the memory of one pass, and into the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memlong.model.forwards import other_forwards

_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


@contextmanager
def gates_in_place(model: nn.Module) -> Iterator[None]:
    """Run the gated layers of ``model`` in place, without gradients and on a CPU; undone afterwards.

    Re-entrant, and safe for threads that share a model: results are the same to the last bit. Only layers are taken
    whose forward pass is the one of :func:`_named` or :func:`_returned`, instruction by instruction, as that of Llama,
    Mistral, Qwen and Gemma is; others (that limit their gates, say) are left to themselves.
    """
    with other_forwards(model, "_memlong_gates", _other):
        yield


def _named(self: Any, x: Tensor) -> Any:
    down_proj = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
    return down_proj


def _returned(self: Any, x: Tensor) -> Any:
    return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def _instructions(function: Any) -> tuple[bytes, tuple[str, ...], int] | None:
    code = getattr(function, "__code__", None)
    return None if code is None else (code.co_code, code.co_names, code.co_argcount)


_KNOWN = (_instructions(_named), _instructions(_returned))


@cache
def _known(forward: Callable[..., Any]) -> bool:
    return _instructions(forward) in _KNOWN


def _other(layer: nn.Module) -> Callable[[Tensor], Tensor] | None:
    if not _known(type(layer).forward):
        return None
    module: Any = layer
    parts = [getattr(module, name, None) for name in _PARTS]
    # Who looks at what a part makes must not see it change; and of a plain linear layer alone it is known that its
    # result is nobody else's.
    watched = any(getattr(part, "_forward_hooks", None) for part in parts)
    gate: Any = parts[0]
    if type(gate) is not nn.Linear or gate.weight.device.type != "cpu" or watched:
        return None
    own: Callable[[Tensor], Tensor] = module.forward

    def forward(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return own(x)
        gate: Tensor = module.gate_proj(x)
        # As transformers and torch call x * sigmoid(x).
        if type(module.act_fn).__name__ in ("SiLU", "SiLUActivation"):
            gate = functional.silu(gate, inplace=True)
        else:
            gate = module.act_fn(gate)
        gate.mul_(module.up_proj(x))
        result: Tensor = module.down_proj(gate)
        return result

    return forward


__all__ = ["gates_in_place"]
